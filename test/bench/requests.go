//go:build linux

package main

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
)

// counts are numbers of requests by "VERB resource.group/subresource".
type counts map[string]float64

// minus is what came after.
func (c counts) minus(before counts) counts {
	after := maps.Clone(c)
	for key, n := range before {
		after[key] -= n
	}
	maps.DeleteFunc(after, func(_ string, n float64) bool { return n == 0 })
	return after
}

// sum adds up the requests with one of some verbs, to resources that a test likes.
func (c counts) sum(likes func(resource string) bool, verbs ...string) float64 {
	var total float64
	for key, n := range c {
		verb, resource, _ := strings.Cut(key, " ")
		if likes(resource) && sets.New(verbs...).Has(verb) {
			total += n
		}
	}
	return total
}

var (
	writing = []string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}
	reading = []string{"GET", "LIST"}
)

// isRoutes says whether a resource is what routes are about. The API server has a life of its own beside them: leases, addresses of Services.
func isRoutes(resource string) bool {
	group := resource
	if _, after, found := strings.Cut(resource, "."); found {
		group, _, _ = strings.Cut(after, "/")
	}
	return group == "networking.externalroute.io" || group == "networking.istio.io" || resource == "services" || resource == "configmaps"
}

func isEvents(resource string) bool { return strings.HasPrefix(resource, "events") }

func requestKey(verb, resource, group, subresource string) string {
	switch verb {
	case "CREATE":
		verb = "POST"
	case "UPDATE":
		verb = "PUT"
	}
	if group != "" {
		resource += "." + group
	}
	if subresource != "" {
		resource += "/" + subresource
	}
	return verb + " " + resource
}

// ownRequests counts what the bench itself asks of the API server, which does not count as another client's.
type ownRequests struct {
	mu   sync.Mutex
	all  counts
	info apirequest.RequestInfoFactory
}

func newOwnRequests() *ownRequests {
	return &ownRequests{all: counts{}, info: apirequest.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (o *ownRequests) count(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		info, err := o.info.NewRequestInfo(r)
		if err == nil && info.IsResourceRequest {
			verb := strings.ToUpper(info.Verb)
			if r.Header.Get("Content-Type") == string(types.ApplyPatchType) {
				verb = "APPLY"
			}
			o.mu.Lock()
			o.all[requestKey(verb, info.Resource, info.APIGroup, info.Subresource)]++
			o.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

func (o *ownRequests) soFar() counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.all)
}

// othersRequests are all that the API server counted since its start, without the bench's own.
func (b *bench) othersRequests(ctx context.Context) (counts, error) {
	raw, err := b.rest.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	families, err := parseMetrics(raw)
	if err != nil {
		return nil, err
	}
	all := counts{}
	for _, metric := range families["apiserver_request_total"].GetMetric() {
		labels := labelsOf(metric)
		if labels["resource"] != "" {
			all[requestKey(labels["verb"], labels["resource"], labels["group"], labels["subresource"])] += metric.GetCounter().GetValue()
		}
	}
	return all.minus(b.own.soFar()), nil
}

func parseMetrics(raw []byte) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(bytes.NewReader(raw))
}

func labelsOf(metric *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, pair := range metric.GetLabel() {
		labels[pair.GetName()] = pair.GetValue()
	}
	return labels
}

// unthrottled is a client's configuration without a limit of its own.
func unthrottled(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.QPS = -1
	return c
}
