package observability_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/test/controlplane"
)

// patience is how long a step may take before the test fails. Nothing is measured by it.
const patience = 3 * time.Minute

// bench is an operator of two replicas on a real control plane, as config/default installs it, and a Prometheus that scrapes both.
type bench struct {
	*testing.T
	plane      *controlplane.ControlPlane
	client     client.Client
	prometheus prometheusv1.API
	replicas   []*process
	addresses  []string // of the replicas' metrics
	began      time.Time
}

// process is one that ends with the test, however the test ends.
type process struct {
	*exec.Cmd
	log   string
	ended chan error
}

// The shell waits at a pipe that only the test holds open, and ends the process when that closes.
const leash = `exec 3<&0; (read -r _ <&3; kill -KILL $$ 2>/dev/null) & exec "$@" 3<&- <&-`

func start(t *testing.T, name string, arguments ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("sh", append([]string{"-c", leash, "sh"}, arguments...)...), ended: make(chan error, 1)}
	p.log = filepath.Join(t.TempDir(), name+".log")
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.Stdout, p.Stderr = log, log
	if _, err := p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		if t.Failed() {
			content, _ := os.ReadFile(p.log)
			t.Logf("--- %s\n%s", name, content[max(0, len(content)-6000):])
		}
	})
	return p
}

// stop asks a process to end and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("%s: %v", p.log, err)
		}
	case <-time.After(patience):
		t.Errorf("%s does not end", p.log)
	}
}

func newBench(t *testing.T, prometheus string) *bench {
	t.Helper()
	plane, err := controlplane.Start(controlplane.Options{ExternalRoute: true, Istio: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Stop() })
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), networkingv1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, plane: plane}
	if b.client, err = client.New(plane.Config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	b.kubectl("", "apply", "--server-side", "-k", filepath.Join(root, "config", "default"))
	b.startOperator()
	b.startPrometheus(prometheus)
	b.began = time.Now()
	return b
}

// startOperator runs two replicas with the rights of the ServiceAccount that is shipped.
func (b *bench) startOperator() {
	b.Helper()
	folder := b.TempDir()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", folder, "./cmd/manager")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, output)
	}
	kubeconfig, err := b.plane.Kubeconfig("system:serviceaccount:externalroute-system:externalroute",
		"system:serviceaccounts", "system:serviceaccounts:externalroute-system")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		address := freeAddress(b.T)
		b.addresses = append(b.addresses, address)
		b.replicas = append(b.replicas, start(b.T, name, filepath.Join(folder, "manager"), "--kubeconfig="+kubeconfig,
			"--leader-elect", "--leader-election-namespace=externalroute-system", "--metrics-bind-address="+address, "--health-probe-bind-address=0"))
	}
}

// startPrometheus runs a Prometheus that reads metrics as one in a cluster does, with a token and the ClusterRole that is shipped, and knows the alerts.
func (b *bench) startPrometheus(folder string) {
	b.Helper()
	b.kubectl("", "-n", "externalroute-system", "create", "serviceaccount", "prometheus")
	b.kubectl("", "create", "clusterrolebinding", "prometheus", "--clusterrole=externalroute-metrics-reader", "--serviceaccount=externalroute-system:prometheus")
	token := b.kubectl("", "-n", "externalroute-system", "create", "token", "prometheus", "--duration=1h")
	alerts, err := filepath.Abs(filepath.Join(root, "config", "prometheus", "alerts.yaml"))
	if err != nil {
		b.Fatal(err)
	}
	config, err := yaml.Marshal(map[string]any{
		"global":     map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{alerts},
		"scrape_configs": []any{map[string]any{
			"job_name":      "externalroute-metrics",
			"scheme":        "https",
			"honor_labels":  true,
			"authorization": map[string]any{"credentials": strings.TrimSpace(token)},
			"tls_config":    map[string]any{"insecure_skip_verify": true},
			"static_configs": []any{map[string]any{
				"targets": b.addresses,
				"labels":  map[string]any{"namespace": "externalroute-system"}, // which the ServiceMonitor adds
			}},
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	data := b.TempDir()
	file := filepath.Join(data, "prometheus.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		b.Fatal(err)
	}
	address := freeAddress(b.T)
	start(b.T, "prometheus", filepath.Join(folder, "prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(data, "tsdb"),
		"--web.listen-address="+address, "--log.level=warn")
	c, err := api.NewClient(api.Config{Address: "http://" + address})
	if err != nil {
		b.Fatal(err)
	}
	b.prometheus = prometheusv1.NewAPI(c)
	b.until("both replicas are scraped, and one leads", func() string {
		if up := b.number(`sum(up)`); up != 2 {
			return fmt.Sprintf("%g are up", up)
		}
		if leaders := b.number(`sum(leader_election_master_status)`); leaders != 1 {
			return fmt.Sprintf("%g lead", leaders)
		}
		return ""
	})
}

// kubectl runs kubectl as the admin and returns what it prints.
func (b *bench) kubectl(input string, arguments ...string) string {
	b.Helper()
	command := b.plane.Kubectl(b.Context(), arguments...)
	command.Stdin = strings.NewReader(input)
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		b.Fatalf("kubectl %s: %v\n%s", strings.Join(arguments, " "), err, problems.String())
	}
	return string(output)
}

// apply applies a manifest as kubectl would.
func (b *bench) apply(manifest string) {
	b.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &object.Object); err != nil {
		b.Fatal(err)
	}
	err := b.client.Apply(b.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("user"), client.ForceOwnership)
	if err != nil {
		b.Fatal(err)
	}
}

// until waits until check finds nothing to complain about.
func (b *bench) until(what string, check func() string) {
	b.Helper()
	var complaint string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if complaint = check(); complaint == "" {
			return
		}
	}
	b.Fatalf("%s: %s", what, complaint)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
