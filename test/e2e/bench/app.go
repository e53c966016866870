//go:build linux

package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

//go:embed envoy.yaml
var bootstrap string

// App is a workload with a sidecar: what it sends goes through Envoy.
type App struct {
	Namespace string

	bench    *Bench
	network  *network
	address  string   // of its pod
	envoy    *process // nil in ambient mode
	dial     func(ctx context.Context, address string) (net.Conn, error)
	http     *http.Client
	agent    *secretService
	expected bool // that Envoy refuses something
	logged   int  // how much of its log AccessLog has returned
}

// proxy is what the bootstrap of an Envoy tells istiod about its pod.
type proxy struct {
	kind    string // sidecar, router or waypoint
	account string // the pod's ServiceAccount
	labels  map[string]string
	istiod  *Istiod // defaults to the bench's
	version string  // of Istio; defaults to that of istiod
}

// Response is an answer as the app saw it.
type Response struct {
	Status int
	Body   string
	Header http.Header
	Proto  string
	Err    error // no answer at all
}

func (r Response) String() string {
	if r.Err != nil {
		return r.Err.Error()
	}
	return fmt.Sprintf("%d %q", r.Status, r.Body)
}

// App starts a workload in a namespace, which is created when it is missing, and ends it with the test. The test fails if its sidecar ever refused what
// istiod sent.
func (b *Bench) App(t *testing.T, namespace string, labels map[string]string) *App {
	t.Helper()
	a, err := b.StartApp(t.Context(), namespace, labels)
	return endsWith(t, a, err)
}

// AppAs is App with a ServiceAccount of the caller's choice.
func (b *Bench) AppAs(t *testing.T, namespace, account string) *App {
	t.Helper()
	a, err := b.startApp(t.Context(), namespace, account, nil)
	return endsWith(t, a, err)
}

func endsWith(t *testing.T, a *App, err error) *App {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// StartApp is App for a caller that is no test, and calls Stop.
func (b *Bench) StartApp(ctx context.Context, namespace string, labels map[string]string) (*App, error) {
	return b.startApp(ctx, namespace, "client", labels)
}

func (b *Bench) startApp(ctx context.Context, namespace, account string, labels map[string]string) (*App, error) {
	if labels == nil {
		labels = map[string]string{"app": "client"}
	}
	a := b.newApp(namespace)
	if err := a.start(ctx, proxy{kind: "sidecar", account: account, labels: labels}); err != nil {
		a.end()
		return nil, fmt.Errorf("start an app in %s: %w (logs: %s)", namespace, err, b.Dir)
	}
	return a, nil
}

func (b *Bench) newApp(namespace string) *App {
	a := &App{Namespace: namespace, bench: b}
	a.http = a.Client(&tls.Config{RootCAs: b.Authority.Pool(), MinVersion: tls.VersionTLS12})
	return a
}

// Stop ends the app. What its sidecar refused is an error.
func (a *App) Stop() error {
	defer a.end()
	var problems []error
	if a.envoy != nil && !a.expected {
		for _, refusal := range a.refusals(context.Background()) {
			problems = append(problems, fmt.Errorf("the sidecar refused an update: %s (logs: %s)", refusal, a.envoy.log))
		}
	}
	return errors.Join(problems...)
}

func (a *App) end() {
	a.http.CloseIdleConnections()
	if a.envoy != nil {
		a.envoy.kill()
	}
	if a.agent != nil {
		a.agent.stop()
	}
	if a.network != nil {
		a.network.remove()
	}
}

func (a *App) start(ctx context.Context, p proxy) (err error) {
	token, err := a.identity(ctx, p.account)
	if err != nil {
		return err
	}
	var name string
	if a.network, name, a.address, err = a.bench.podNetwork(a.Namespace); err != nil {
		return err
	}
	a.dial = a.network.dial
	if p.kind == "sidecar" {
		if err := a.network.capture(); err != nil {
			return err
		}
	}
	socket := filepath.Join(a.bench.Dir, name+".sock")
	if a.agent, err = startSecretService(socket, a.bench.Authority, a.Namespace, p.account); err != nil {
		return err
	}
	encoded, err := json.Marshal(p.labels)
	if err != nil {
		return err
	}
	values := map[string]string{
		"KIND": p.kind, "NAME": name, "NAMESPACE": a.Namespace, "ACCOUNT": p.account, "ADDRESS": a.address, "LABELS": string(encoded), "TOKEN": token,
		"XDS": cmp.Or(p.istiod, a.bench.Istiod).socket.Addr().String(), "SDS": socket, "VERSION": cmp.Or(p.version, "1.31.1"),
	}
	file := filepath.Join(a.bench.Dir, name+".yaml")
	if err := os.WriteFile(file, []byte(os.Expand(bootstrap, func(key string) string { return values[key] })), 0o644); err != nil {
		return err
	}
	words := a.network.command(a.bench.envoy, "--config-path", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning",
		"--file-flush-interval-msec", "100")
	if a.envoy, err = launch(a.bench.Dir, name, nil, words[0], words[1:]...); err != nil {
		return err
	}
	return a.envoy.await(ctx, func() error {
		state, err := a.admin(ctx, "ready")
		if err == nil && !strings.HasPrefix(state, "LIVE") {
			err = errors.New(state)
		}
		return err
	})
}

// Command prepares a program of this machine to run as the app does: in its network, with its name server, and without the user's environment.
func (a *App) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	words := a.network.command(program, args...)
	command := exec.CommandContext(ctx, words[0], words[1:]...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + a.network.etc}
	return command
}

// identity makes the ServiceAccount of the app, which may read secrets, as Istio asks for client certificates, and returns its token.
func (a *App) identity(ctx context.Context, name string) (string, error) {
	meta := metav1.ObjectMeta{Namespace: a.Namespace, Name: name}
	account := &corev1.ServiceAccount{ObjectMeta: meta}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace}},
		account,
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list", "watch"}}}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: a.Namespace, Name: name}},
		},
	} {
		if err := a.bench.Cluster.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return "", err
		}
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"istio-ca"}}}
	if err := a.bench.Cluster.SubResource("token").Create(ctx, account, request); err != nil {
		return "", err
	}
	return request.Status.Token, nil
}

// Client makes an HTTP client whose connections leave from the app. It follows no redirects and keeps its connections.
func (a *App) Client(config *tls.Config) *http.Client {
	return &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, address string) (net.Conn, error) { return a.Dial(ctx, address) },
			TLSClientConfig:     config,
			ForceAttemptHTTP2:   true,
			DisableCompression:  true,
			MaxIdleConnsPerHost: 1000,
		},
	}
}

// Dial connects the app to HOST:PORT, by the cluster's Services and then by the world's DNS.
func (a *App) Dial(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ip, err := a.lookup(host)
	if err != nil {
		return nil, err
	}
	return a.dial(ctx, net.JoinHostPort(ip, port))
}

// lookup resolves a name as a pod's resolver does: NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc and NAME.NAMESPACE.svc.cluster.local are Services.
func (a *App) lookup(host string) (string, error) {
	if ip := net.ParseIP(host); ip != nil {
		return host, nil
	}
	for _, domain := range []string{"." + a.Namespace + "." + services, "." + services, "." + clusterDomain, ""} {
		if addresses, _ := a.bench.DNS.Lookup(host + domain); len(addresses) > 0 {
			return addresses[0].String(), nil
		}
	}
	return "", &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// Get sends a request without a body.
func (a *App) Get(ctx context.Context, url string) Response {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return Response{Err: err}
	}
	return a.Do(request)
}

// Do sends a request and reads the whole answer.
func (a *App) Do(request *http.Request) Response { return do(a.http, request) }

func do(sender *http.Client, request *http.Request) Response {
	response, err := sender.Do(request)
	if err != nil {
		return Response{Err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return Response{Status: response.StatusCode, Body: string(body), Header: response.Header, Proto: response.Proto, Err: err}
}

// Fresh is Get on a connection of its own.
func (a *App) Fresh(ctx context.Context, url string) Response {
	a.Hangup()
	return a.Get(ctx, url)
}

// Hangup closes the connections that the app keeps.
func (a *App) Hangup() { a.http.CloseIdleConnections() }

// Until sends GET requests until an answer satisfies the test, and returns that answer, or the last one with false if it takes too long.
func (a *App) Until(ctx context.Context, url string, wanted func(Response) bool) (Response, bool) {
	var last Response
	err := eventually(ctx, url, func() error {
		if last = a.Fresh(ctx, url); wanted(last) {
			return nil
		}
		return errors.New(last.String())
	})
	return last, err == nil
}

var rejected = regexp.MustCompile(`(?m)^.*update_rejected: [1-9].*$`)

// MustRefuse waits until Envoy has refused an update with these words, which then does not fail the test.
func (a *App) MustRefuse(t *testing.T, words string) {
	t.Helper()
	a.expected = true
	if err := eventually(t.Context(), "a refusal", func() error {
		if all := strings.Join(a.refusals(t.Context()), "\n"); !strings.Contains(all, words) {
			return fmt.Errorf("it has refused %q", all)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// refusals tells which updates of istiod Envoy has refused since its start, and why.
func (a *App) refusals(ctx context.Context) []string {
	stats, err := a.admin(ctx, "stats?filter=update_rejected")
	if err != nil {
		return []string{err.Error()}
	}
	found := rejected.FindAllString(stats, -1)
	if len(found) > 0 {
		log, err := os.ReadFile(a.envoy.log)
		if err != nil {
			return append(found, err.Error())
		}
		for line := range strings.SplitSeq(string(log), "\n") {
			if strings.Contains(line, "rejected") {
				found = append(found, line)
			}
		}
	}
	return found
}

// Admin asks Envoy's administration interface.
func (a *App) Admin(t *testing.T, path string) string {
	t.Helper()
	answer, err := a.admin(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (a *App) admin(ctx context.Context, path string) (string, error) {
	response := a.Get(ctx, "http://127.0.0.1:15000/"+path)
	return response.Body, response.Err
}

// AccessLog returns the lines that the Envoy of the app has logged since the last call, with a short delay.
func (a *App) AccessLog() ([]string, error) {
	content, err := os.ReadFile(a.envoy.log)
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(content[a.logged:])) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		a.logged += len(line)
		if strings.HasPrefix(line, "[") && strings.Contains(line, "outbound|") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines, nil
}
