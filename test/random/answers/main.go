// Command answers draws requests to routes and explains each of them: one JSON object a line, for a test that sends them through a mesh and compares.
// It reads the routes and where they are from its input.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/explain"
	"github.com/externalroute/externalroute/internal/translate"
	"github.com/externalroute/externalroute/test/random"
)

// question is what it reads.
type question struct {
	Routes []*unstructured.Unstructured `json:"routes"`
	// Gateway is the egress gateway NAMESPACE/NAME of all routes that have one.
	Gateway string `json:"gateway"`
	// Labels are those of the pods in the namespace of the routes. Other is a namespace without routes, and its pods have no label that a route selects.
	Labels map[string]string `json:"labels"`
	Other  string            `json:"other"`
	// Calls is how many calls are drawn, and From is the first seed.
	Calls int `json:"calls"`
	From  int `json:"from"`
}

// answered is a line of the output.
type answered struct {
	Seed   int            `json:"seed"`
	Call   random.Call    `json:"call"`
	Answer explain.Answer `json:"answer"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		return err
	}
	routes, err := q.translated()
	if err != nil {
		return err
	}
	specs := make([]*v1alpha1.ExternalRoute, len(routes))
	for i, route := range routes {
		specs[i] = route.ExternalRoute
	}
	calls := random.Calls(specs, q.Other)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for seed := q.From; seed < q.From+q.Calls; seed++ {
		call := calls.Example(seed)
		request, err := q.request(call)
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		if err := encoder.Encode(answered{seed, call, explain.Explain(request, routes, translate.DefaultClusterDomain)}); err != nil {
			return err
		}
	}
	return out.Flush()
}

func (q *question) translated() (routes []explain.Route, err error) {
	generator, err := random.New()
	if err != nil {
		return nil, err
	}
	for _, manifest := range q.Routes {
		route, problems := generator.Admit(manifest)
		if len(problems) > 0 {
			return nil, fmt.Errorf("%s is refused: %w", manifest.GetName(), problems.ToAggregate())
		}
		mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain}
		if route.Spec.EgressGateway != nil {
			mesh.Services = random.WithGateway(manifest, route, q.Gateway)
		}
		translation, refusal := translate.Translate(route, mesh)
		routes = append(routes, explain.Route{ExternalRoute: route, Translation: translation, Refusal: refusal})
	}
	return routes, nil
}

func (q *question) request(call random.Call) (explain.Request, error) {
	u, err := url.Parse(call.URL)
	request := explain.Request{Method: call.Method, URL: u, Namespace: call.Namespace, Headers: map[string][]string{}, Labels: q.Labels}
	if call.Namespace == q.Other {
		request.Labels = map[string]string{}
	}
	for _, header := range call.Headers {
		name := strings.ToLower(header[0])
		request.Headers[name] = append(request.Headers[name], header[1])
	}
	return request, err
}
