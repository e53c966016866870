package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/explain"
	"github.com/externalroute/externalroute/internal/policy"
)

const explainLong = `Explain what happens to a request: the route and the rule that take it, the path and the authority that leave, the destination, its TLS,
the road, the generated objects and the Envoy cluster. If no route takes the request, the command says why: rule by rule, or which host, port, export or refusal
is in the way.

http URLs are requests that the mesh reads. https URLs are TLS of the workload's own, and tcp://HOST:PORT is a connection.
With -f or -k, no cluster is asked: the answer is about the manifests of the input, in a mesh with default settings, and the routes of the input are judged as
by lint. --from names the workload's namespace, and a pod whose manifest is in the input.

Without -f and -k, the answer is about the routes of the cluster and what their status says. --from names the workload's namespace, and a pod of the cluster.
If the operator has not written what the present spec asks for, the answer is about the objects in the cluster: those of an earlier spec serve the request, or
no route takes it. A pod without a sidecar uses routes with a waypoint only.
The answer says too whether a Sidecar resource hides the host from the workload, whether the workload is in the mesh, and which settings of the mesh decide.
VirtualServices of others are not followed.

Exits with 0 if a route takes the request, 1 if none does or the input cannot be read, and 2 for wrong flags.`

const explainExample = `  # a request of a pod of the cluster
  kubectl externalroute explain http://webserver/a --from shop/frontend-5d9c

  # which rule, and where to
  kubectl externalroute explain "http://webserver/a?b=c" -f route.yaml

  # a POST with a header, from another namespace
  kubectl externalroute explain http://payments.shop/v1/charge -X POST -H "x-sandbox: true" --from checkout -f routes/

  # TLS of the workload's own
  kubectl externalroute explain https://www.example.com -f routes/`

var podKind = schema.GroupKind{Kind: "Pod"}

// explainer is the explain command with its flags.
type explainer struct {
	input
	from      string
	method    string
	headers   []string
	output    string
	otherwise string
	// istioNamespace is that of the ConfigMap with the mesh's settings.
	istioNamespace string
}

// answerFormats print an answer.
var answerFormats = map[string]func(explain.Answer, io.Writer) error{
	"text": printAnswer,
	"json": func(a explain.Answer, out io.Writer) error { return encode(a, out) },
	"yaml": func(a explain.Answer, out io.Writer) error {
		text, err := yaml.Marshal(a)
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	},
}

func newExplain(env environment) *cobra.Command {
	e := &explainer{input: input{environment: env}}
	command := &cobra.Command{
		Use:     "explain URL [-f FILE|DIR|- | -k DIR]",
		Short:   "Explain what happens to a request, and why",
		Long:    explainLong,
		Example: explainExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return usage{errors.New("exactly one URL is required")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return e.run(cmd.Context(), args[0]) },
	}
	e.addSources(command)
	flags := command.Flags()
	flags.StringVar(&e.from, "from", "", "NAMESPACE or NAMESPACE/POD that sends the request. Defaults to the namespace of -n.")
	flags.StringVarP(&e.method, "method", "X", "GET", "method of the request")
	flags.StringArrayVarP(&e.headers, "header", "H", nil, `header of the request, such as "x-tier: gold"`)
	flags.StringVarP(&e.output, "output", "o", "text", "format of the answer: json, text, yaml")
	flags.StringVar(&e.istioNamespace, "istio-namespace", "istio-system", "namespace of istiod, whose ConfigMap has the mesh's settings")
	flags.StringVar(&e.otherwise, "default-policy", "", "the operator's --default-policy: Allow or Deny")
	for flag, complete := range map[string]cobra.CompletionFunc{"from": e.completeSenders, "istio-namespace": completeNamespaces(env)} {
		if err := command.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // the flags are defined above
		}
	}
	for flag, values := range map[string][]string{
		"output": {"json", "text", "yaml"}, "method": {"GET", "POST", "PUT", "DELETE"}, "default-policy": {string(policy.Allow), string(policy.Deny)},
	} {
		if err := command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flags are defined above
		}
	}
	return command
}

func (e *explainer) run(ctx context.Context, address string) error {
	write, found := answerFormats[e.output]
	if !found {
		return usage{fmt.Errorf("--output %q: must be one of json, text, yaml", e.output)}
	}
	if !slices.Contains([]policy.Default{"", policy.Allow, policy.Deny}, policy.Default(e.otherwise)) {
		return usage{fmt.Errorf("--default-policy %q: must be Allow or Deny", e.otherwise)}
	}
	request, err := e.request(address)
	if err != nil {
		return usage{err}
	}
	e.reads = e.readFor(request)
	manifests, err := e.read()
	if err != nil {
		return err
	}
	if e.local() && len(ofKind(manifests, routeKind)) == 0 {
		return errors.New("the input holds no ExternalRoute")
	}
	w, err := e.world(manifests)
	if err != nil {
		return err
	}
	w.otherwise = policy.Default(e.otherwise)
	routes, err := routesIn(ctx, w, manifests)
	if err != nil {
		return err
	}
	var answer explain.Answer
	if e.local() {
		answer, err = e.answer(request, routes, manifests)
	} else {
		answer, err = e.liveAnswer(request, routes, w)
	}
	if err != nil {
		return err
	}
	if err := e.checkAnswer(request, answer); err != nil {
		return err
	}
	if err := write(answer, e.Out); err != nil {
		return err
	}
	if !answer.Taken() {
		return errors.New("no route takes the request")
	}
	return nil
}

// checkAnswer refuses to say that no route takes a request without the routes of the namespaces that it concerns.
func (e *explainer) checkAnswer(request explain.Request, answer explain.Answer) error {
	if answer.Outcome != explain.NotServed {
		return nil
	}
	err := e.checkRoutes(e.concernedBy(request)...)
	if host := request.URL.Hostname(); err != nil && strings.Count(host, ".") == 1 {
		return fmt.Errorf("%w, or write %s. with a final dot if it is no Service", err, host)
	}
	return err
}

// readFor are the namespaces to read for a request: those that it concerns, and that of -n.
func (e *explainer) readFor(request explain.Request) []string {
	all := e.concernedBy(request)
	if e.named && !slices.Contains(all, e.namespace) {
		all = append(all, e.namespace)
	}
	return all
}

// concernedBy are the namespaces of the sender and of the Service that the request may call.
func (e *explainer) concernedBy(request explain.Request) []string {
	all := []string{request.Namespace}
	if called := calledIn(request.URL.Hostname(), e.clusterDomain); called != "" && called != request.Namespace {
		all = append(all, called)
	}
	return all
}

// calledIn is the namespace of a Service that a host may name, empty if it names none. A final dot says that a host is none in a search domain.
func calledIn(host, clusterDomain string) string {
	host = strings.ToLower(host)
	service, inCluster := strings.CutSuffix(strings.TrimSuffix(host, "."), ".svc."+clusterDomain)
	if !inCluster {
		service = strings.TrimSuffix(host, ".svc")
	}
	_, namespace, _ := strings.Cut(service, ".")
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return ""
	}
	return namespace
}

// answer is the answer about files.
func (e *explainer) answer(request explain.Request, routes []explain.Route, manifests []manifest) (explain.Answer, error) {
	if request.Pod != "" {
		labels, found := labelsOf(manifests, request.Namespace, request.Pod)
		if !found {
			return explain.Answer{}, fmt.Errorf("the input holds no Pod %s/%s: add its manifest, or name the namespace only", request.Namespace, request.Pod)
		}
		request.Labels = labels
	}
	return explain.Explain(request, routes, e.clusterDomain), nil
}

// liveAnswer is the answer about a cluster, with what it says about the sender and the mesh.
func (e *explainer) liveAnswer(request explain.Request, routes []explain.Route, w *world) (explain.Answer, error) {
	sender, err := e.readWorkload(&request, w)
	if err != nil {
		return explain.Answer{}, err
	}
	request.Hides = func(owner string, hosts []string, port uint32) string {
		return sender.hides(request.Namespace, owner, hosts, port)
	}
	request.Outside = sender.outside()
	answer := explain.Explain(request, routes, e.clusterDomain)
	var taken *v1alpha1.ExternalRoute
	if i := slices.IndexFunc(routes, func(r explain.Route) bool { return r.Namespace+"/"+r.Name == answer.Route }); i >= 0 {
		taken = routes[i].ExternalRoute
	}
	answer.Notes = append(answer.Notes, sender.remarks(request, w, answer, taken)...)
	return answer, nil
}

// request reads the arguments.
func (e *explainer) request(address string) (request explain.Request, err error) {
	if request.URL, err = urlOf(address); err != nil {
		return request, err
	}
	if request.URL.Scheme == "http" {
		request.Method = e.method
	}
	if request.Headers, err = headersOf(e.headers); err != nil {
		return request, err
	}
	namespace, pod, named := strings.Cut(cmp.Or(e.from, e.namespace), "/")
	if namespace == "" || named && (pod == "" || strings.Contains(pod, "/")) {
		return request, fmt.Errorf("--from %q: must be NAMESPACE or NAMESPACE/POD", e.from)
	}
	request.Namespace, request.Pod = namespace, pod
	return request, nil
}

func urlOf(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, err
	case !slices.Contains([]string{"http", "https", "tcp"}, u.Scheme):
		return nil, fmt.Errorf("URL %q: must begin with http://, https:// or tcp://", address)
	case u.Hostname() == "" || u.User != nil:
		return nil, fmt.Errorf("URL %q: must have a host, and no user", address)
	case u.Scheme == "tcp" && (u.Port() == "" || u.Path != ""):
		return nil, fmt.Errorf("URL %q: must be tcp://HOST:PORT", address)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("URL %q: the port must be 1 to 65535", address)
		}
	}
	u.Fragment = "" // clients keep it to themselves
	return u, nil
}

// headersOf are the values of headers by their lower-case names.
func headersOf(lines []string) (map[string][]string, error) {
	headers := map[string][]string{}
	for _, line := range lines {
		name, value, found := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !found || name == "":
			return nil, fmt.Errorf("--header %q: must be NAME: VALUE", line)
		case name == "host":
			return nil, errors.New("--header host: write the host in the URL")
		}
		headers[name] = append(headers[name], value)
	}
	return headers, nil
}

// labelsOf are the labels of a pod of the input.
func labelsOf(manifests []manifest, namespace, pod string) (labels map[string]string, found bool) {
	for _, m := range ofKind(manifests, podKind) {
		if m.GetNamespace() == namespace && m.GetName() == pod {
			if labels = m.GetLabels(); labels == nil {
				labels = map[string]string{}
			}
			return labels, true
		}
	}
	return nil, false
}

// routesIn are the routes of the input, judged as lint judges them. An invalid policy is an error: nobody knows what it would allow.
func routesIn(ctx context.Context, w *world, manifests []manifest) (routes []explain.Route, err error) {
	var mistakes []error
	for _, m := range ofKind(manifests, policyKind) {
		if refusal := w.admitPolicy(ctx, m); refusal != nil {
			mistakes = append(mistakes, refused(m, refusal))
		}
	}
	if len(mistakes) > 0 && !w.live { // in a cluster, it does not apply
		return nil, errors.Join(mistakes...)
	}
	for _, j := range w.judgeRoutes(ctx, manifests) {
		route := explained(j)
		if w.live {
			w.said(&route, j)
		}
		routes = append(routes, route)
	}
	return routes, nil
}

// explained is what explain has to know of a route. One through a gateway whose Service was not read is neither translated nor refused.
func explained(j *judged) explain.Route {
	route := explain.Route{ExternalRoute: j.route, Translation: j.translation, Refusal: j.refusal}
	if j.route == nil {
		route.ExternalRoute = asWritten(j.manifest)
	}
	if notJudged(j.refusal) {
		route.Verb = "cannot be translated"
	}
	route.Notes = slices.Sorted(maps.Values(j.missing))
	return route
}

// asWritten is a route that the API server would refuse, as far as it can be read.
func asWritten(m manifest) *v1alpha1.ExternalRoute {
	route := &v1alpha1.ExternalRoute{}
	_ = runtime.DefaultUnstructuredConverter.FromUnstructured(m.Object, route) // what it cannot read stays empty, and the refusal names it
	route.Namespace, route.Name = m.GetNamespace(), m.GetName()
	return route
}
