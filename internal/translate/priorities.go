package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	istio "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/externalroute/externalroute/api/v1alpha1"
)

// Istio sorts the endpoints of a subset by labels. Each priority but the first has a label, which all endpoints before that priority carry: an endpoint
// that carries all of them comes first, one that carries none comes last (docs/design/0013-endpoint-priorities.md).

func priorityOf(e v1alpha1.Endpoint) int32 {
	if e.Priority == nil {
		return 0
	}
	return *e.Priority
}

// dialed is the address and the port of an endpoint: one IP address has several spellings, and the port defaults to the URL's.
func (d *destination) dialed(e v1alpha1.Endpoint) string {
	address := string(e.Address)
	if ip, err := netip.ParseAddr(address); err == nil {
		address = ip.String()
	}
	return fmt.Sprintf("%s %d", address, cmp.Or(uint32(e.Port), d.port)) //nolint:gosec // 1..65535 by schema
}

// sameEndpoints reports whether two destinations of one host and port connect to the same endpoints, in the same order.
func (d *destination) sameEndpoints(other *destination) bool {
	return slices.EqualFunc(d.Endpoints, other.Endpoints, func(a, b v1alpha1.Endpoint) bool {
		return d.dialed(a) == other.dialed(b) && priorityOf(a) == priorityOf(b)
	})
}

// priorities are those of the endpoints, in the order in which they are used: nil if all have the same one, so that there is nothing to sort.
func (d *destination) priorities() []int32 {
	used := map[int32]bool{}
	for _, e := range d.Endpoints {
		used[priorityOf(e)] = true
	}
	if len(used) < 2 {
		return nil
	}
	return slices.Sorted(maps.Keys(used))
}

func before(priority int32) string {
	return fmt.Sprintf("%s/before-priority-%d", v1alpha1.GroupName, priority)
}

// priorityLabels are the labels of an endpoint by which the subset sorts it.
func (d *destination) priorityLabels(e v1alpha1.Endpoint) map[string]string {
	var labels map[string]string
	for _, priority := range d.priorities() {
		if priorityOf(e) >= priority {
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[before(priority)] = "true"
	}
	return labels
}

// failover sorts the endpoints by their labels. The values are part of the list, so that the labels of the client do not matter.
func failover(d *destination) *istio.LoadBalancerSettings {
	priorities := d.priorities()
	if len(priorities) == 0 {
		return nil
	}
	setting := &istio.LocalityLoadBalancerSetting{}
	for _, priority := range slices.Backward(priorities[1:]) {
		setting.FailoverPriority = append(setting.FailoverPriority, before(priority)+"=true")
	}
	return &istio.LoadBalancerSettings{LocalityLbSetting: setting}
}

// allButOne is the smallest percentage by which Envoy ejects all endpoints but one, or 0 if there are not several. With Envoy's own 10% it ejects none of
// fewer than ten. With 100% nothing is left after a few errors, not even an endpoint that has recovered.
func (d *destination) allButOne() int32 {
	if len(d.Endpoints) < 2 {
		return 0
	}
	total := len(d.Endpoints)
	return int32((100*(total-1) + total - 1) / total) //nolint:gosec // below 100
}

// checkPriorities refuses endpoints whose order Envoy could not follow.
func checkPriorities(d *destination) field.ErrorList {
	priorities := d.priorities()
	if len(priorities) == 0 || d.OutlierDetection == nil {
		return nil
	}
	var problems field.ErrorList
	last := priorities[len(priorities)-1]
	indices, early := map[string]int{}, 0
	for i, e := range d.Endpoints {
		if priorityOf(e) < last {
			early++
		}
		key := d.dialed(e)
		if other, twice := indices[key]; twice {
			path := d.path.Child("endpoints")
			problems = append(problems, field.Invalid(path.Index(i), e.Address, fmt.Sprintf(
				"has the address and port of %s: an endpoint has one priority, so remove one of the two", path.Index(other))))
		}
		indices[key] = i
	}
	total, percent := len(d.Endpoints), int(d.OutlierDetection.MaxEjectionPercent)
	if percent != 0 && percent*total < 100*early {
		problems = append(problems, field.Invalid(d.path.Child("outlierDetection", "maxEjectionPercent"), percent, fmt.Sprintf(
			"ejects at most %d of %d endpoints, and %d come before the last priority, so that it never takes over: set %d or more, or remove it",
			percent*total/100, total, early, (100*early+total-1)/total)))
	}
	return problems
}
