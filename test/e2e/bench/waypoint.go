//go:build linux

package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/externalroute/externalroute/test/controlplane"
)

//go:embed waypoint.yaml
var waypointManifests string

// Waypoint is an Envoy that istiod configures as the waypoint of the Gateway "waypoint" in its namespace.
type Waypoint struct {
	*Gateway

	istiod *Istiod
}

// Waypoint starts a waypoint in a new namespace, with an istiod of its own, whose ambient mode is on, and ends both with the test, as App does.
func (b *Bench) Waypoint(t *testing.T, namespace string) *Waypoint {
	t.Helper()
	labels := map[string]string{"gateway.networking.k8s.io/gateway-name": "waypoint", "gateway.istio.io/managed": "istio.io-mesh-controller"}
	w := &Waypoint{Gateway: &Gateway{App: b.newApp(namespace), Name: "waypoint", labels: labels, ports: map[string]gatewayPort{"mesh": {hbone, hbone}}}}
	t.Cleanup(w.end)
	if err := w.startWaypoint(t.Context()); err != nil {
		t.Fatalf("start the waypoint of %s: %v (logs: %s)", namespace, err, b.Dir)
	}
	t.Cleanup(func() {
		if err := w.Stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *Waypoint) end() {
	w.Gateway.end()
	if w.istiod != nil {
		w.istiod.stop()
	}
}

const hbone = 15008

// ambient lets istiod serve waypoints. It has no templates for their pods: the bench runs them.
var ambient = []string{
	"POD_NAME=istiod-ambient-0", "PILOT_ENABLE_AMBIENT=true", "PILOT_ENABLE_GATEWAY_API=true", "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER=false",
}

func (w *Waypoint) startWaypoint(ctx context.Context) error {
	definitions, err := controlplane.GatewayAPICRDs()
	if err != nil {
		return err
	}
	if err := w.bench.InstallCRDs(definitions); err != nil {
		return err
	}
	if err := w.bench.Namespace(ctx, w.Namespace); err != nil {
		return err
	}
	apply := w.bench.Kubectl(ctx, "apply", "--namespace", w.Namespace, "-f", "-")
	apply.Stdin = strings.NewReader(waypointManifests)
	if output, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("apply the manifests: %w: %s", err, output)
	}
	// istiod comes after the EnvoyFilter, without which this Envoy refuses the listeners of a waypoint.
	if w.istiod, err = w.bench.newIstiod(ctx, "istiod-ambient", ambient...); err != nil {
		return err
	}
	// Before 1.29.2, istiod names a type of filter state that vanilla Envoy has too.
	return w.startGateway(ctx, proxy{kind: "waypoint", istiod: w.istiod, version: "1.29.1"})
}

// Workload returns a workload in ambient mode. In the place of ztunnel, the bench carries its connections to the waypoint by HBONE: as CONNECT over mutual
// TLS, with the identity of the workload.
func (w *Waypoint) Workload(t *testing.T, namespace string) *App {
	t.Helper()
	certificate, err := w.bench.Authority.Server(time.Now().AddDate(0, 0, 1), "spiffe://"+clusterDomain+"/ns/"+namespace+"/sa/client")
	if err != nil {
		t.Fatal(err)
	}
	tunnels := w.tunnels(certificate)
	a := w.bench.newApp(namespace)
	a.dial = func(ctx context.Context, address string) (net.Conn, error) { return tunnel(ctx, tunnels, address) }
	t.Cleanup(func() {
		a.end()
		tunnels.CloseIdleConnections()
	})
	return a
}

// tunnels connects to the waypoint, whatever the address is.
func (w *Waypoint) tunnels(certificate tls.Certificate) *http.Transport {
	config := &tls.Config{
		Certificates:       []tls.Certificate{certificate},
		NextProtos:         []string{"h2"},
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // the names in workload certificates are URIs, which Go does not compare: VerifyConnection does
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf := state.PeerCertificates[0]
			if want := "spiffe://" + clusterDomain + "/ns/" + w.Namespace + "/sa/" + w.Name; len(leaf.URIs) != 1 || leaf.URIs[0].String() != want {
				return fmt.Errorf("the waypoint is %v, not %s", leaf.URIs, want)
			}
			_, err := leaf.Verify(x509.VerifyOptions{Roots: w.bench.Authority.Pool()})
			return err
		},
	}
	return &http.Transport{
		ForceAttemptHTTP2: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			raw, err := w.bench.world.dial(ctx, net.JoinHostPort(w.address, strconv.Itoa(hbone)))
			if err != nil {
				return nil, err
			}
			connection := tls.Client(raw, config)
			if err := connection.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, raw.Close())
			}
			return connection, nil
		},
	}
}

// tunnel makes a connection of one stream of HTTP/2. The context is that of the connecting, not of the connection.
func tunnel(ctx context.Context, tunnels *http.Transport, address string) (net.Conn, error) {
	near, far := net.Pipe()
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	connecting := context.AfterFunc(ctx, cancel)
	request, err := http.NewRequestWithContext(whole, http.MethodConnect, "https://"+address, far)
	if err != nil {
		cancel()
		return nil, err
	}
	response, err := tunnels.RoundTrip(request) //nolint:bodyclose // the connection closes it
	if err != nil {
		cancel()
		return nil, err
	}
	connecting()
	if response.StatusCode != http.StatusOK {
		cancel()
		return nil, errors.Join(fmt.Errorf("CONNECT %s: %s", address, response.Status), response.Body.Close())
	}
	go func() {
		defer cancel()
		_, _ = io.Copy(far, response.Body) // until one side closes
		_ = response.Body.Close()
		_ = far.Close()
	}()
	return near, nil
}
