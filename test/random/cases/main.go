// Command cases prints random routes that the API server admits, and what they become: one JSON object a line, for tests that judge the generated objects
// by something that this module does not import. It prints what the translation must never do, too, as "error".
//
//	go run ./test/random/cases -from 0 -seeds 1000 | jq .
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/externalroute/externalroute/internal/translate"
	"github.com/externalroute/externalroute/test/random"
)

// result is one line.
type result struct {
	Seed  int                        `json:"seed"`
	Route *unstructured.Unstructured `json:"route"`
	// Refused says why the route becomes nothing. It is that or the generated objects.
	Refused   string                       `json:"refused,omitempty"`
	Generated []*unstructured.Unstructured `json:"generated,omitempty"`
	Error     string                       `json:"error,omitempty"`
}

func main() {
	from := flag.Int("from", 0, "the first seed")
	seeds := flag.Int("seeds", 1000, "how many seeds to try; those whose route the API server refuses print nothing")
	namespace := flag.String("namespace", "", "Namespace of all routes. Defaults to one for each.")
	bare := flag.Bool("bare", false, "in a mesh without anything else, all references resolved")
	gateway := flag.String("gateway", "", "NAMESPACE/NAME of the egress gateway that exists in a bare mesh, and that all routes with egressGateway name. Defaults to none.")
	regexes := flag.Bool("regexes", false, "routes that match by regular expressions only, without those that are refused")
	callable := flag.Bool("callable", false, "routes whose destinations a test can serve, and whose rules mark what they forward")
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "how many to draw at once; with 1, they come in order")
	flag.Parse()
	debug.SetGCPercent(400) // little is kept of a case
	o := options{namespace: *namespace, bare: *bare, gateway: *gateway, regexes: *regexes, callable: *callable}
	if err := run(*from, *seeds, *workers, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	namespace, gateway      string
	bare, regexes, callable bool
}

func run(from, seeds, workers int, o options) error {
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	var next atomic.Int64
	var lock sync.Mutex
	problems := make([]error, workers)
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() {
			generator, err := random.New()
			if err != nil {
				problems[i] = err
				return
			}
			generator.Namespace = o.namespace
			for n := next.Add(1) - 1; n < int64(seeds) && problems[i] == nil; n = next.Add(1) - 1 {
				r, admitted := try(generator, from+int(n), o)
				if !admitted {
					continue
				}
				lock.Lock()
				problems[i] = encoder.Encode(r)
				lock.Unlock()
			}
		})
	}
	group.Wait()
	return errors.Join(errors.Join(problems...), out.Flush())
}

func try(generator *random.Generator, seed int, o options) (r result, admitted bool) {
	r.Seed = seed
	defer func() {
		if panicked := recover(); panicked != nil {
			r.Error = fmt.Sprintf("%v\n%s", panicked, debug.Stack())
			admitted = true
		}
	}()
	mesh := translate.Mesh{ClusterDomain: translate.DefaultClusterDomain}
	switch {
	case o.regexes:
		r.Route = generator.Regexes().Example(seed)
		_, problems := generator.Admit(r.Route)
		random.WithoutRules(r.Route, problems)
		if route, problems := generator.Admit(r.Route); len(problems) == 0 {
			if _, refusal := translate.Translate(route, mesh); refusal != nil {
				random.WithoutRules(r.Route, refusal.Problems)
			}
		}
	case o.callable:
		r.Route = generator.Callables().Example(seed)
	default:
		r.Route = generator.Manifests().Example(seed)
	}
	route, problems := generator.Admit(r.Route)
	if len(problems) > 0 {
		return r, false
	}
	if o.gateway != "" && route.Spec.EgressGateway != nil {
		mesh.Services = random.WithGateway(r.Route, route, o.gateway)
	}
	if !o.bare {
		mesh = random.Meshes(route).Example(seed)
	}
	generated, refusal, err := random.Translate(route, mesh)
	r.Generated = generated
	if refusal != nil {
		r.Refused = refusal.Message()
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r, true
}
