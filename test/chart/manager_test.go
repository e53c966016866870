package chart_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// program builds the manager once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(tools, "manager")
	command := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./cmd/manager")
	command.Dir, command.Stderr = root, os.Stderr
	return path, command.Run()
})

// ports are what the manager listens on: it runs on this machine, where those of the chart may be taken.
type ports struct{ health, metrics int }

func freePorts(t *testing.T) ports {
	t.Helper()
	return ports{freePort(t), freePort(t)}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().(*net.TCPAddr).Port
}

// values say the ports to the chart.
func (p ports) values() []string {
	return []string{
		"--set=metrics.port=" + strconv.Itoa(p.metrics),
		"--set=extraArgs={--health-probe-bind-address=localhost:" + strconv.Itoa(p.health) + "}",
	}
}

// runManager runs the manager as a Deployment says: with its arguments, and as its ServiceAccount, by a token as a pod gets one. It returns when the
// manager is ready.
func (c *cluster) runManager(t *testing.T, key client.ObjectKey, p ports) *process {
	t.Helper()
	deployment := &appsv1.Deployment{}
	if err := c.client.Get(t.Context(), key, deployment); err != nil {
		t.Fatal(err)
	}
	pod := deployment.Spec.Template.Spec
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	environment := []string{"KUBECONFIG=" + c.kubeconfigOf(t, key.Namespace, pod.ServiceAccountName)}
	manager := c.runIn(t, environment, "manager", path, pod.Containers[0].Args...)
	eventually(t, "the manager is ready", func() bool {
		return get(t, "http://localhost:"+strconv.Itoa(p.health)+"/readyz", "").status == http.StatusOK
	})
	return manager
}

// kubeconfigOf writes a kubeconfig with a token of a ServiceAccount.
func (c *cluster) kubeconfigOf(t *testing.T, namespace, name string) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["here"] = &clientcmdapi.Cluster{Server: c.Config.Host, CertificateAuthorityData: c.Config.CAData}
	config.AuthInfos["account"] = &clientcmdapi.AuthInfo{Token: c.token(t, namespace, name)}
	config.Contexts["here"] = &clientcmdapi.Context{Cluster: "here", AuthInfo: "account"}
	config.CurrentContext = "here"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

func (c *cluster) token(t *testing.T, namespace, name string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	request := &authenticationv1.TokenRequest{}
	if err := c.client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

type response struct {
	status int
	body   string
}

// get asks with a token, as Prometheus does: the manager's certificate is its own. The status 0 says that nobody answered.
func get(t *testing.T, url, token string) response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // as said
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return response{}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{answer.StatusCode, string(body)}
}

// reconciled says whether the metrics tell of a reconciliation that went well.
func reconciled(metrics string) bool {
	for line := range strings.Lines(metrics) {
		count, found := strings.CutPrefix(line, `controller_runtime_reconcile_total{controller="externalroute",result="success"} `)
		if found && strings.TrimSpace(count) != "0" {
			return true
		}
	}
	return false
}
