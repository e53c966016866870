package plan

import (
	"fmt"
	"maps"
	"slices"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/externalroute/externalroute/internal/translate"
)

// bridge is a wanted upstream as it may be now. Before traffic has settled it has the subsets and the plain ports that traffic may still use, and it lacks a
// plain port that must not be there yet. It is the wanted object itself if nothing is different.
func (p *planner) bridge(want, live translate.Object) translate.Object {
	switch w := want.(type) {
	case *networkingv1.DestinationRule:
		if p.isSettled() {
			return want
		}
		if l, stands := live.(*networkingv1.DestinationRule); stands {
			w = keepSubsets(w, l)
		}
		return p.keepReplaced(w)
	case *networkingv1.ServiceEntry:
		l, _ := live.(*networkingv1.ServiceEntry)
		return p.bridgePorts(w, l)
	}
	return want
}

// keepReplaced adds what rules that were handed over decide about the host, subsets and the settings of the first that has any: Istio may ignore those rules
// beside the route's.
func (p *planner) keepReplaced(want *networkingv1.DestinationRule) *networkingv1.DestinationRule {
	both, decided := want, false
	for _, object := range p.InForce {
		old, is := object.(*networkingv1.DestinationRule)
		if !is || old.Spec.Host != want.Spec.Host {
			continue
		}
		both = keepSubsets(both, old)
		if decided || old.Spec.TrafficPolicy == nil {
			continue
		}
		if both == want {
			both = want.DeepCopy()
		}
		both.Spec.TrafficPolicy, decided = old.Spec.TrafficPolicy, true
	}
	return both
}

// keepSubsets adds the live rule's subsets.
func keepSubsets(want, live *networkingv1.DestinationRule) *networkingv1.DestinationRule {
	both := want
	for _, old := range live.Spec.Subsets {
		if slices.ContainsFunc(want.Spec.Subsets, func(s *istio.Subset) bool { return s.Name == old.Name }) {
			continue
		}
		if both == want {
			both = want.DeepCopy()
		}
		both.Spec.Subsets = append(both.Spec.Subsets, old)
	}
	return both
}

// bridgePorts keeps the live entry's plain ports until traffic has settled, and adds those of the wanted one only when the VirtualService sends their
// requests on.
//
// Istio puts the endpoints of all entries of a host together by port. A plain port, which leads nowhere, and an open one of the same number must not both be
// there while requests are sent to that number.
func (p *planner) bridgePorts(want, live *networkingv1.ServiceEntry) *networkingv1.ServiceEntry {
	host := want.Spec.Hosts[0]
	stands := func(number uint32) bool { return live != nil && hasPort(live, number) }
	ports := slices.DeleteFunc(slices.Clone(want.Spec.Ports), func(port *istio.ServicePort) bool {
		early := !p.serves(host, port.Number) || !p.isSettled() && p.opened(host, port.Number)
		return translate.LeadsNowhere(port) && early && !stands(port.Number)
	})
	if live == nil {
		live = want
	}
	for _, port := range live.Spec.Ports {
		used := !p.isSettled() || p.serves(host, port.Number)
		if translate.LeadsNowhere(port) && used && !hasPort(want, port.Number) && !p.opens(host, port.Number) {
			ports = append(ports, port)
		}
	}
	ports = p.keepPorts(ports, host)
	if slices.Equal(ports, want.Spec.Ports) {
		return want
	}
	return withPorts(want, ports)
}

// keepPorts adds the ports of entries that were handed over until traffic has settled, also in place of a plain port: Istio may ignore those entries beside
// the route's.
func (p *planner) keepPorts(ports []*istio.ServicePort, host string) []*istio.ServicePort {
	if p.isSettled() {
		return ports
	}
	for _, object := range p.InForce {
		old, is := object.(*networkingv1.ServiceEntry)
		if !is || !slices.Contains(old.Spec.Hosts, host) {
			continue
		}
		for _, port := range old.Spec.Ports {
			i := slices.IndexFunc(ports, func(q *istio.ServicePort) bool { return q.Number == port.Number })
			if i >= 0 && !translate.LeadsNowhere(ports[i]) {
				continue
			}
			kept := &istio.ServicePort{Number: port.Number, Name: fmt.Sprintf("kept-%d", port.Number), Protocol: port.Protocol, TargetPort: port.TargetPort}
			if ports = slices.Clone(ports); i < 0 {
				ports = append(ports, kept)
			} else {
				ports[i] = kept
			}
		}
	}
	return ports
}

// serves reports whether the VirtualService sends on what comes in on a port of a host.
func (p *planner) serves(host string, port uint32) bool {
	return p.serving != nil && slices.Contains(p.serving.Spec.Hosts, host) && serves(p.serving, port)
}

func hasPort(entry *networkingv1.ServiceEntry, number uint32) bool {
	return slices.ContainsFunc(entry.Spec.Ports, func(p *istio.ServicePort) bool { return p.Number == number })
}

// openPorts adds the plain ports of wanted entries right after the VirtualService that serves them.
func (p *planner) openPorts() {
	for _, item := range p.Objects {
		want, ok := item.Object.(*networkingv1.ServiceEntry)
		if !ok {
			continue
		}
		key := translate.KeyOf(want)
		live, _ := p.standing(key).(*networkingv1.ServiceEntry)
		if now := p.bridgePorts(want, live); !translate.InSync(now, p.planned(key)) {
			p.Apply = append(p.Apply, Step{Object: now, Stage: StagePorts, Exists: true})
		}
	}
}

// closePorts takes plain ports out of entries that the route does not ask for any more, if a wanted entry opens the same port of the host: the VirtualService
// still sends requests elsewhere, and does not need them.
func (p *planner) closePorts() {
	for _, key := range slices.SortedFunc(maps.Keys(p.Owned), compareKeys) {
		live, ok := p.Owned[key].(*networkingv1.ServiceEntry)
		if !ok || slices.ContainsFunc(p.Objects, func(item translate.Item) bool { return translate.KeyOf(item.Object) == key }) {
			continue
		}
		ports := slices.DeleteFunc(slices.Clone(live.Spec.Ports), func(port *istio.ServicePort) bool {
			return translate.LeadsNowhere(port) && p.opens(live.Spec.Hosts[0], port.Number)
		})
		if len(ports) < len(live.Spec.Ports) {
			p.apply(withPorts(live, ports), translate.StageUpstream)
		}
	}
}

// opens reports whether a wanted entry has the port with an endpoint behind it; opened, whether one that stands and is not wanted has.
func (p *planner) opens(host string, number uint32) bool {
	return slices.ContainsFunc(p.Objects, func(item translate.Item) bool { return opensPort(item.Object, host, number) })
}

func (p *planner) opened(host string, number uint32) bool {
	for _, object := range p.Owned {
		if opensPort(object, host, number) {
			return true
		}
	}
	return false
}

func opensPort(object translate.Object, host string, number uint32) bool {
	entry, ok := object.(*networkingv1.ServiceEntry)
	return ok && slices.Contains(entry.Spec.Hosts, host) && slices.ContainsFunc(entry.Spec.Ports, func(p *istio.ServicePort) bool {
		return p.Number == number && !translate.LeadsNowhere(p)
	})
}

// withPorts is a copy of an entry with other ports, and without the metadata that only a cluster knows.
func withPorts(entry *networkingv1.ServiceEntry, ports []*istio.ServicePort) *networkingv1.ServiceEntry {
	other := entry.DeepCopy()
	other.Spec.Ports = ports
	other.TypeMeta = metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "ServiceEntry"}
	other.ObjectMeta = metav1.ObjectMeta{Namespace: entry.Namespace, Name: entry.Name, Labels: entry.Labels, Annotations: entry.Annotations}
	return other
}
