//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/externalroute/externalroute/test/e2e/bench"
)

// otherNamespace is one without routes. Random routes export to it by this name.
const otherNamespace = "other"

const explainedGateway = "explained"

// What internal/explain says of random calls to random routes is what Envoy does with them: which rule takes a call, what the upstream sees, and through which
// clusters it leaves, or that no upstream sees it. EXPLAIN_CALLS draws more calls per route, and EXPLAIN_FROM is the seed of the first one. RANDOM_SEEDS draws
// more routes, and RANDOM_FROM is the seed of the first one.
func TestExplain(t *testing.T) {
	g := egress(t, randomNamespace+"-egress", explainedGateway)
	program := built(t, "./test/random/answers")
	decoy := &bench.Upstream{Host: "decoy.example.net", Handler: reports("decoy")}
	mesh.Serve(t, decoy)
	mesh.Serve(t, &bench.Upstream{Host: decoy.Host, Plain: true, Unlisted: true, Address: decoy.Address, Handler: decoy.Handler})
	counts := map[string]int{}
	inBatches(t, 30, variable(t, "RANDOM_SEEDS", 100), func(b *batchOfRoutes) {
		b.gateway = g
		t.Run(fmt.Sprintf("%d routes from seed %d", len(b.routes), b.routes[0].Seed), func(t *testing.T) {
			e := &explained{batchOfRoutes: b, decoy: decoy}
			e.compare(t, program, counts)
		})
	}, "-callable", "-gateway", g.Namespace+"/"+g.Name)
	t.Logf("compared %v", counts)
	for _, outcome := range []string{"Forwarded", "Answered", "NoRule", "NotServed", "PassedThrough"} {
		if counts[outcome] < 20 {
			t.Errorf("%d calls are %s: too few to say anything", counts[outcome], outcome)
		}
	}
}

// pair is a line of test/random/answers: a call, and what internal/explain says of it.
type pair struct {
	Seed int `json:"seed"`
	Call struct {
		Method    string      `json:"method"`
		URL       string      `json:"url"`
		Headers   [][2]string `json:"headers"`
		Namespace string      `json:"namespace"`
	} `json:"call"`
	Answer struct {
		Outcome, Rule, Route, Path, Body, Fault string
		Why                                     []string
		Status                                  int
		Road                                    struct{ Kind, Cluster string }
		Destinations                            []struct{ URL, Authority, SNI, Cluster string }
	} `json:"answer"`

	url     *url.URL
	raw     string
	outcome outcome
}

func (p *pair) scheme() string { return p.url.Scheme }

// outcome is what became of a call.
type outcome struct {
	err    error
	status int
	body   string
	// seen is what an upstream saw, nil if none did.
	seen *sight
	// key is by which the access log names the call.
	key string
}

// sight is a call as an upstream saw it.
type sight struct{ Upstream, Authority, URI, SNI, Mark string }

const markHeader = "X-Marked-By-Rule"

func reports(upstream string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := sight{Upstream: upstream, Authority: r.Host, URI: r.RequestURI, Mark: r.Header.Get(markHeader)}
		if r.TLS != nil {
			s.SNI = r.TLS.ServerName
		}
		text, _ := json.Marshal(s) //nolint:errchkjson // texts only
		w.Header().Set("X-Seen", url.QueryEscape(string(text)))
	}
}

// explained is a batch whose routes are called.
type explained struct {
	*batchOfRoutes

	decoy *bench.Upstream
	apps  map[string]*bench.App
	http  map[string]*http.Client
}

func (e *explained) compare(t *testing.T, program string, counts map[string]int) {
	t.Helper()
	begin := time.Now()
	e.serve(t)
	e.start(t)
	pairs := e.pairs(t, program, variable(t, "EXPLAIN_FROM", 0), variable(t, "EXPLAIN_CALLS", 150)*len(e.routes))
	ready := time.Since(begin)
	work := make(chan *pair)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for p := range work {
				p.outcome = e.call(t.Context(), p)
			}
		})
	}
	for _, p := range pairs {
		work <- p
	}
	close(work)
	group.Wait()
	for _, p := range pairs { // what DNS or a retry was in the way of is called again
		for tries := 0; tries < 2 && p.disagreement() != ""; tries++ {
			p.outcome = e.call(t.Context(), p)
		}
	}
	sent := time.Since(begin) - ready
	clusters := e.clusters(t, pairs)
	reported := 0
	for _, p := range pairs {
		counts[p.Answer.Outcome]++
		problem := cmp.Or(p.disagreement(), p.elsewhere(clusters))
		if problem == "" {
			continue
		}
		if reported++; reported <= 20 {
			o := p.outcome
			t.Errorf("call %d: %s\n%s\nseen: %d %q %v %+v\n%s", p.Seed, problem, p.raw, o.status, o.body, o.err, o.seen, e.routeOf(t, p))
		}
	}
	if reported > 20 {
		t.Errorf("%d calls more", reported-20)
	}
	t.Logf("%d calls: %s to start, %s to call, %s to read the logs", len(pairs), ready.Round(time.Millisecond), sent.Round(time.Millisecond),
		(time.Since(begin) - ready - sent).Round(time.Millisecond))
}

func (e *explained) routeOf(t *testing.T, p *pair) string {
	t.Helper()
	for _, r := range e.routes {
		if r.Route.GetNamespace()+"/"+r.Route.GetName() == p.Answer.Route {
			text, err := json.Marshal(r.Route.Object["spec"])
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("route seed %d: %s", r.Seed, text)
		}
	}
	return ""
}

// serve starts a server for each destination.
func (e *explained) serve(t *testing.T) {
	t.Helper()
	served := map[string]bool{}
	addresses := map[string]string{}
	for _, r := range e.routes {
		names := []string{"server"}
		for _, object := range r.Generated {
			for _, subset := range itemsAt(object.Object, "spec", "subsets") {
				names = append(names, stringsAt(subset, "trafficPolicy", "tls", "subjectAltNames")...)
			}
		}
		certificate, err := mesh.Authority.Server(time.Now().AddDate(0, 0, 1), names...)
		if err != nil {
			t.Fatal(err)
		}
		destinations := itemsAt(r.Route.Object, "spec", "destinations")
		if len(destinations) == 0 {
			for _, host := range stringsAt(r.Route.Object, "spec", "hosts") {
				mesh.DNS.Set(host, time.Minute, 0, e.decoy.Address)
			}
		}
		for _, destination := range destinations {
			u := upstreamOf(t, destination["url"])
			u.Certificate, u.Address = &certificate, addresses[u.Host]
			if name := fmt.Sprintf("%s:%d", u.Host, u.Port); !served[name] {
				served[name] = true
				mesh.Serve(t, u)
				addresses[u.Host] = u.Address
			}
		}
	}
}

// upstreamOf is the server of a destination.
func upstreamOf(t *testing.T, address any) *bench.Upstream {
	t.Helper()
	parsed, err := url.Parse(fmt.Sprint(address))
	if err != nil {
		t.Fatal(err)
	}
	u := &bench.Upstream{Host: parsed.Hostname(), Plain: parsed.Scheme == "http" || parsed.Scheme == "tcp", Port: portOf(parsed)}
	name := fmt.Sprintf("%s:%d", u.Host, u.Port)
	u.Handler = reports(name)
	if parsed.Scheme == "tcp" || parsed.Scheme == "tls" {
		u.Conn = func(c net.Conn) { reportsConnection(c, name, u) }
	}
	return u
}

func portOf(u *url.URL) int {
	if port, err := strconv.Atoi(u.Port()); err == nil {
		return port
	}
	return map[string]int{"http": 80, "https": 443}[u.Scheme]
}

// reportsConnection answers a line, inside TLS of the client's own if it begins with a handshake.
func reportsConnection(c net.Conn, name string, u *bench.Upstream) {
	s := sight{Upstream: name}
	if secure, is := c.(*tls.Conn); is {
		s.SNI = secure.ConnectionState().ServerName
	}
	reader := bufio.NewReader(c)
	first, err := reader.Peek(1)
	if err != nil {
		return
	}
	var out io.Writer = c
	if first[0] == 0x16 {
		inner := tls.Server(&buffered{c, reader}, &tls.Config{Certificates: []tls.Certificate{*u.Certificate}, MinVersion: tls.VersionTLS12})
		out, reader = inner, bufio.NewReader(inner)
	}
	if _, err := reader.ReadString('\n'); err != nil {
		return
	}
	_ = json.NewEncoder(out).Encode(s)
}

// buffered is a connection of which something is read already.
type buffered struct {
	net.Conn
	reader io.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.reader.Read(p) }

// start starts apps in both namespaces, applies the objects, and waits until all Envoys have them.
func (e *explained) start(t *testing.T) {
	t.Helper()
	e.apps = map[string]*bench.App{randomNamespace: mesh.App(t, randomNamespace, e.labels), otherNamespace: mesh.App(t, otherNamespace, nil)}
	e.http = map[string]*http.Client{}
	t.Cleanup(func() {
		for namespace := range e.apps {
			forgetGenerated(t, namespace)
		}
	})
	for namespace, app := range e.apps {
		apply(t, namespace, "registry-only.yaml")
		apply(t, namespace, "egress-log.yaml")
		e.http[namespace] = &http.Client{
			Timeout:       time.Minute,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				return e.dial(ctx, app, address)
			}},
		}
		t.Cleanup(e.http[namespace].CloseIdleConnections)
	}
	for _, r := range e.routes {
		for _, object := range r.Generated {
			configuration := client.ApplyConfigurationFromUnstructured(object.DeepCopy())
			if err := hasty().Apply(t.Context(), configuration, client.FieldOwner("random"), client.ForceOwnership); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, app := range e.apps {
		arrived(t, app)
	}
	arrivedAt(t, e.gateway)
	await(t, "all clusters", func() (string, bool) {
		missing := e.missing(t, e.apps[randomNamespace])
		return strings.Join(missing, ", "), len(missing) == 0
	})
}

// dial connects to what a name means, or to a server that answers for all other names.
func (e *explained) dial(ctx context.Context, app *bench.App, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	host, absolute := strings.CutSuffix(strings.ToLower(host), ".")
	if _, known := mesh.DNS.Lookup(host); absolute && !known {
		host = e.decoy.Address
	}
	c, err := app.Dial(ctx, net.JoinHostPort(host, port))
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		return app.Dial(ctx, net.JoinHostPort(e.decoy.Address, port))
	}
	return c, err
}

func (e *explained) pairs(t *testing.T, program string, from, calls int) (pairs []*pair) {
	t.Helper()
	var routes []*unstructured.Unstructured
	for _, r := range e.routes {
		routes = append(routes, r.Route)
	}
	input, err := json.Marshal(map[string]any{
		"routes": routes, "gateway": e.gateway.Namespace + "/" + e.gateway.Name, "labels": e.labels, "other": otherNamespace, "from": from, "calls": calls,
	})
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program)
	command.Stdin, command.Stderr = bytes.NewReader(input), os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(output) {
		p := &pair{raw: string(bytes.TrimSpace(line))}
		if err := json.Unmarshal(line, p); err != nil {
			t.Fatal(err)
		}
		if p.url, err = url.Parse(p.Call.URL); err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// call sends a call from its namespace.
func (e *explained) call(ctx context.Context, p *pair) outcome {
	if p.scheme() != "http" {
		return e.connect(ctx, p)
	}
	o := outcome{key: fmt.Sprintf("call-%d", p.Seed)}
	request, err := http.NewRequestWithContext(ctx, p.Call.Method, p.Call.URL, http.NoBody)
	if err != nil {
		return outcome{err: err}
	}
	for _, header := range p.Call.Headers {
		request.Header.Add(header[0], header[1])
	}
	request.Header.Set("User-Agent", o.key)
	response, err := e.http[p.Call.Namespace].Do(request)
	if err != nil {
		return outcome{err: err}
	}
	o.read(response)
	return o
}

func (o *outcome) read(response *http.Response) {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	o.status, o.body, o.err = response.StatusCode, string(body), err
	if text, err := url.QueryUnescape(response.Header.Get("X-Seen")); err == nil && text != "" {
		o.seen = &sight{}
		o.err = errors.Join(o.err, json.Unmarshal([]byte(text), o.seen))
	}
}

// connect makes a connection, sends a request or a line over it, and closes it.
func (e *explained) connect(ctx context.Context, p *pair) (o outcome) {
	c, err := e.dial(ctx, e.apps[p.Call.Namespace], net.JoinHostPort(p.url.Hostname(), strconv.Itoa(portOf(p.url))))
	if err != nil {
		return outcome{err: err}
	}
	defer c.Close()
	o.key = c.LocalAddr().String()
	if o.err = c.SetDeadline(time.Now().Add(20 * time.Second)); o.err != nil {
		return o
	}
	if p.scheme() == "https" {
		secure := tls.Client(c, &tls.Config{ServerName: p.url.Hostname(), InsecureSkipVerify: true}) //nolint:gosec // which server answers is what the test compares
		if o.err = secure.HandshakeContext(ctx); o.err != nil {
			return o
		}
		c = secure
	}
	if p.scheme() == "https" && p.Answer.Outcome != "Forwarded" {
		if _, o.err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", p.url.RequestURI(), p.url.Host); o.err != nil {
			return o
		}
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if o.err = err; err == nil {
			o.read(response)
		}
		return o
	}
	if _, o.err = fmt.Fprintln(c, "hello"); o.err != nil {
		return o
	}
	s := &sight{}
	if o.err = json.NewDecoder(c).Decode(s); o.err == nil {
		o.seen = s
	}
	return o
}

// clusters reads the access logs until they have all calls that an upstream saw, or nothing new comes, and returns the clusters by call.
func (e *explained) clusters(t *testing.T, pairs []*pair) map[string]string {
	t.Helper()
	for _, sender := range e.http {
		sender.CloseIdleConnections()
	}
	found := map[string]string{}
	for idle := 0; idle < 20; idle++ {
		before := len(found)
		for _, app := range []*bench.App{e.apps[randomNamespace], e.apps[otherNamespace], e.gateway.App} {
			lines, err := app.AccessLog()
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range lines {
				fields := fieldsInLog.FindStringSubmatch(line)
				if fields == nil {
					t.Fatalf("the access log has the line %q", line)
				}
				key := cmp.Or(keyInLog.FindString(line), fields[2])
				if app == e.gateway.App {
					key = "gateway " + key
				}
				found[key] = fields[1]
			}
		}
		if len(found) > before {
			idle = 0
		}
		if !slices.ContainsFunc(pairs, func(p *pair) bool { return p.elsewhere(found) != "" }) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return found
}

var (
	keyInLog = regexp.MustCompile(`call-\d+`)
	// fieldsInLog are the cluster and the client's address, of Istio's default format.
	fieldsInLog = regexp.MustCompile(`(outbound\|\d+\|\S*) \S+ \S+ (\S+) \S+ \S+$`)
)

// disagreement is in what the answer and the outcome differ, empty if they agree.
func (p *pair) disagreement() string {
	o := p.outcome
	var aborted int
	if _, err := fmt.Sscanf(p.Answer.Fault[strings.LastIndex(p.Answer.Fault, " ")+1:], "%d", &aborted); err == nil && o.seen == nil && o.status == aborted {
		return ""
	}
	switch p.Answer.Outcome {
	case "Forwarded", "PassedThrough":
		return p.arrival(o)
	case "Answered":
		if o.seen != nil || o.status != p.Answer.Status || p.Call.Method != http.MethodHead && p.Answer.Body != "" && bodied(o.status) && o.body != p.Answer.Body {
			return fmt.Sprintf("status %d and body %q are not those of the answer", o.status, o.body)
		}
	case "NoRule":
		if o.seen != nil || o.status != http.StatusNotFound || o.body != "" {
			return "it is no 404 of Envoy's own"
		}
	default:
		if slices.ContainsFunc(p.Answer.Why, func(why string) bool { return strings.Contains(why, "all the same") }) {
			return "" // that depends on the rest of the mesh
		}
		asItIs := slices.ContainsFunc(p.Answer.Why, func(why string) bool { return strings.Contains(why, "leaves as it is") })
		if o.seen != nil && (!asItIs || o.seen.Mark != "") {
			return "an upstream sees it"
		}
		if o.err == nil && (o.status < 400 || o.status == http.StatusNotFound) && !asItIs {
			return "it is answered"
		}
	}
	return ""
}

func bodied(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// arrival is in what a call that arrives differs from the answer.
func (p *pair) arrival(o outcome) string {
	if o.seen == nil {
		return "no upstream sees it"
	}
	if rule := p.mark(); p.scheme() == "http" && o.seen.Mark != rule {
		return fmt.Sprintf("it is marked by rule %q, not %q", o.seen.Mark, rule)
	}
	if p.scheme() == "http" && o.seen.URI != p.Answer.Path {
		return fmt.Sprintf("the path is %q, not %q", o.seen.URI, p.Answer.Path)
	}
	for _, d := range p.Answer.Destinations {
		u, err := url.Parse(d.URL)
		if err != nil {
			return err.Error()
		}
		same := strings.EqualFold(o.seen.SNI, d.SNI) && (d.Authority == "" || o.seen.Authority == d.Authority)
		if same && (p.Answer.Outcome == "PassedThrough" || o.seen.Upstream == fmt.Sprintf("%s:%d", u.Hostname(), portOf(u))) {
			return ""
		}
	}
	return "it arrives at none of the destinations, or otherwise"
}

// mark is what the rule of the answer writes: nothing if the route has none.
func (p *pair) mark() string {
	rule, found := strings.CutPrefix(p.Answer.Rule, "spec.rules[")
	if !found {
		return ""
	}
	_, name, _ := strings.Cut(p.Answer.Route, "/")
	return name + "/" + strings.TrimSuffix(rule, "]")
}

// elsewhere says which cluster a call left through, if the answer names none of them.
func (p *pair) elsewhere(clusters map[string]string) string {
	o := p.outcome
	if o.seen == nil || len(p.Answer.Destinations) == 0 {
		return ""
	}
	if p.scheme() != "http" {
		return p.unused(clusters)
	}
	own := clusters[o.key]
	if p.Answer.Road.Kind == "EgressGateway" {
		if own != p.Answer.Road.Cluster {
			return fmt.Sprintf("it reaches the gateway through cluster %s", own)
		}
		own = clusters["gateway "+o.key]
	}
	for _, d := range p.Answer.Destinations {
		if d.Cluster == own {
			return ""
		}
	}
	return fmt.Sprintf("it leaves through cluster %s", own)
}

// unused says that no connection left through a cluster of the answer. Which one did is not known: the capture may give a connection another port.
func (p *pair) unused(clusters map[string]string) string {
	first := cmp.Or(p.Answer.Road.Cluster, p.Answer.Destinations[0].Cluster)
	for _, used := range clusters {
		if used == first || len(p.Answer.Destinations) > 1 {
			return ""
		}
	}
	return fmt.Sprintf("no connection leaves through cluster %s", first)
}
