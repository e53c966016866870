package gitops_test

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	serviceEntries  = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "ServiceEntry"}
	virtualServices = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"}
)

var (
	requests = regexp.MustCompile(`(?m)^apiserver_request_total\{(.*)\} (\S+)$`)
	label    = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// writes are the requests so far that could have changed something, as the API server counts them, by verb and resource. Flux's own objects, leases,
// events and reviews are not among them.
func (s *story) writes() map[string]int {
	s.Helper()
	counts := map[string]int{}
	for _, line := range requests.FindAllStringSubmatch(s.kubectl("get", "--raw=/metrics"), -1) {
		labels := map[string]string{}
		for _, one := range label.FindAllStringSubmatch(line[1], -1) {
			labels[one[1]] = one[2]
		}
		group := labels["group"]
		switch {
		case !slices.Contains([]string{"APPLY", "PATCH", "POST", "PUT", "DELETE", "DELETECOLLECTION"}, labels["verb"]), labels["dry_run"] != "":
		case strings.HasSuffix(group, ".toolkit.fluxcd.io"), group == "coordination.k8s.io", labels["resource"] == "events":
		case group == "authentication.k8s.io", group == "authorization.k8s.io":
		default:
			count, err := strconv.ParseFloat(line[2], 64)
			if err != nil {
				s.Fatal(err)
			}
			counts[strings.Trim(labels["verb"]+" "+labels["resource"]+"."+group+"/"+labels["subresource"], "./")] += int(count)
		}
	}
	return counts
}

// wrote checks what has been written since other writes were counted.
func (s *story) wrote(before, want map[string]int) {
	s.Helper()
	got := s.writes()
	for name, count := range before {
		if got[name] -= count; got[name] == 0 {
			delete(got, name)
		}
	}
	if difference := cmp.Diff(want, got); difference != "" {
		s.Errorf("writes, want (-) and got (+):\n%s", difference)
	}
}

// atRest makes Flux reconcile its Kustomizations some times, and checks that neither it nor the operator writes anything, whatever the namespace.
func (s *story) atRest(namespace string, names ...string) {
	s.Helper()
	writes, versions := s.writes(), s.versions(namespace)
	for range 3 {
		s.reconcile(gitRepositories, "deploy", "")
		for _, name := range names {
			if ready := s.reconcile(kustomizations, name, ""); ready.status != "True" {
				s.Errorf("Kustomization %s is not Ready: %+v", name, ready)
			}
		}
	}
	s.wrote(writes, map[string]int{})
	if difference := cmp.Diff(versions, s.versions(namespace)); difference != "" {
		s.Errorf("objects changed at rest, before (-) and after (+):\n%s", difference)
	}
}

// versions are the resource versions of the routes in a namespace, and of what the operator generates there.
func (s *story) versions(namespace string) map[string]string {
	s.Helper()
	versions := map[string]string{}
	for _, kind := range append([]schema.GroupVersionKind{routes}, generated...) {
		for _, object := range s.list(kind, namespace) {
			versions[kind.Kind+" "+object.GetName()] = object.GetResourceVersion()
		}
	}
	return versions
}

// specs are those of the objects that the operator generates for the routes.
func (s *story) specs() map[string]any {
	s.Helper()
	specs := map[string]any{}
	for _, kind := range generated {
		for _, object := range s.list(kind, "shop") {
			specs[kind.Kind+" "+object.GetName()] = object.Object["spec"]
		}
	}
	return specs
}

// hosts are those of the ServiceEntries, sorted.
func (s *story) hosts() []string {
	s.Helper()
	hosts := map[string]bool{}
	for _, entry := range s.list(serviceEntries, "shop") {
		all, _, _ := unstructured.NestedStringSlice(entry.Object, "spec", "hosts")
		for _, host := range all {
			hosts[host] = true
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}

// destinations are the hosts to which the VirtualServices send traffic, sorted.
func (s *story) destinations() []string {
	s.Helper()
	hosts := map[string]bool{}
	for _, service := range s.list(virtualServices, "shop") {
		rules, _, _ := unstructured.NestedSlice(service.Object, "spec", "http")
		for _, rule := range rules {
			targets, _, _ := unstructured.NestedSlice(rule.(map[string]any), "route")
			for _, target := range targets {
				host, _, _ := unstructured.NestedString(target.(map[string]any), "destination", "host")
				hosts[host] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}

// generated are the kinds that the operator generates.
var generated = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Service"},
	serviceEntries,
	{Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"},
	virtualServices,
}
