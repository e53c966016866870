//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/test/controlplane"
)

// Istiod is the mesh's control plane.
type Istiod struct {
	process *process
	socket  net.Listener // of Envoys, in the file system
	launch  func() (*process, error)
	ready   string
}

// Envoy is vanilla: it lacks Istio's filters, hence the two PILOT_ENABLE switches. A proxy's identity is its token, taken over plaintext.
var istiodEnvironment = []string{
	"POD_NAME=istiod-0", "POD_NAMESPACE=istio-system",
	"INJECTION_WEBHOOK_CONFIG_NAME=", "VALIDATION_WEBHOOK_CONFIG_NAME=",
	"PILOT_ENABLE_ALPN_FILTER=false", "PILOT_ENABLE_METADATA_EXCHANGE=false", "PILOT_ENABLE_GATEWAY_API=false",
	"XDS_AUTH_PLAINTEXT=true",
}

func (b *Bench) startIstiod() (err error) {
	ctx := context.Background()
	if err := b.Namespace(ctx, "istio-system"); err != nil {
		return err
	}
	mesh := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"},
		Data:       map[string]string{"mesh": "defaultProviders: {}\n"},
	}
	if err := b.Cluster.Create(ctx, mesh); err != nil {
		return err
	}
	b.Istiod, err = b.newIstiod(ctx, "istiod")
	return err
}

// newIstiod starts an istiod with more environment than usual. The name is that of its log.
func (b *Bench) newIstiod(ctx context.Context, name string, environment ...string) (*Istiod, error) {
	binary, err := controlplane.LastLine("./hack/istiod/build.sh")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	i := &Istiod{ready: "http://" + ports[1] + "/ready"}
	environment = slices.Concat(istiodEnvironment, environment)
	i.launch = func() (*process, error) {
		return launch(b.Dir, name, environment, binary, "discovery", "--kubeconfig", b.KubeconfigFile,
			"--grpcAddr", ports[0], "--httpAddr", ports[1], "--monitoringAddr", ports[2], "--secureGRPCAddr", "", "--httpsAddr", "", "--ctrlz_port", "0")
	}
	if i.socket, err = forward(filepath.Join(b.Dir, name+".sock"), ports[0]); err != nil {
		return nil, err
	}
	if i.process, err = i.launch(); err == nil {
		err = i.await(ctx)
	}
	if err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

// Restart kills istiod and starts another one.
func (i *Istiod) Restart(ctx context.Context) (err error) {
	i.process.kill()
	if i.process, err = i.launch(); err != nil {
		return err
	}
	return i.await(ctx)
}

func (i *Istiod) await(ctx context.Context) error {
	return i.process.await(ctx, func() error { return ready(ctx, i.ready) })
}

func (i *Istiod) stop() {
	if i.process != nil {
		i.process.kill()
	}
	_ = i.socket.Close()
}

// forward joins a socket in the file system, which is the same in every network namespace, to a port of this machine.
func forward(socket, address string) (net.Listener, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go join(from, address)
		}
	}()
	return listener, nil
}

func join(from net.Conn, address string) {
	defer from.Close()
	to, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return // istiod is away: Envoy tries again
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
}

func freePorts(n int) ([]string, error) {
	var addresses []string
	var listeners []net.Listener
	defer func() { // held until all are found, so that no two are the same
		for _, listener := range listeners {
			_ = listener.Close()
		}
	}()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, listener)
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

func ready(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return errors.Join(err, response.Body.Close())
}
