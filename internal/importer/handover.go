package importer

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// handOver finds which objects only one route replaces, and as a whole. Nothing that stays may depend on one: the operator deletes it, and requests that still
// use the rest might leave in plaintext. So VirtualServices come first, then what they refer to, then the rules.
func (i *importer) handOver() {
	for _, v := range i.virtualServices {
		i.decide(v, "")
	}
	for _, e := range i.entries {
		i.decide(e, i.neededEntry(e))
	}
	for _, r := range i.rules {
		i.decide(r, i.neededRule(r))
	}
	for _, object := range i.all {
		if gateway, is := object.(*networkingv1.Gateway); is {
			i.decide(gateway, i.neededGateway(gateway))
		}
	}
	for _, r := range i.routes {
		if r.overGateway() {
			r.noteOutage()
		}
	}
}

// decide hands an object over, or notes why not. needed says what depends on it.
func (i *importer) decide(object translate.Object, needed string) {
	key := translate.KeyOf(object)
	users := i.used[key]
	if len(users) == 0 {
		return
	}
	adopt := object.GetAnnotations()[v1alpha1.AdoptAnnotation]
	note := ""
	switch {
	case len(i.stays[key]) > 0:
		note = fmt.Sprintf("%s stays: see below", key)
	case needed != "":
		note = fmt.Sprintf("%s is not handed over: %s", key, needed)
	case slices.ContainsFunc(users, (*Imported).overGateway):
		i.leaveOver(object)
		return
	case len(users) > 1:
		i.leftOver[key] = true
		note = fmt.Sprintf("%s is used by %d routes: delete it when all of them are ready", key, len(users))
	case adopt != "" && adopt != users[0].Route.Name:
		note = fmt.Sprintf("%s: %s", key, takenOver(adopt))
	case i.kept[key] != "":
		note = fmt.Sprintf("%s is not handed over: %s", key, i.kept[key])
	}
	if note != "" {
		for _, r := range users {
			r.Notes, r.shared = append(r.Notes, note), true
		}
		return
	}
	i.handedOver[key] = true
	users[0].Replaces = append(users[0].Replaces, object)
	if rule, is := object.(*networkingv1.DestinationRule); is {
		for _, s := range rule.Spec.Subsets {
			if !i.usesSubset(rule, s.Name) {
				users[0].Notes = append(users[0].Notes, fmt.Sprintf("no VirtualService of the input uses subset %s of %s, and no route has it", s.Name, key))
			}
		}
	}
}

// leaveOver notes an object that a route through a gateway conflicts with, and that others no longer need when they are ready.
func (i *importer) leaveOver(object translate.Object) {
	key := translate.KeyOf(object)
	i.leftOver[key] = true
	for _, r := range i.used[key] {
		if r.overGateway() {
			r.outage, r.together = append(r.outage, key), r.together || len(i.used[key]) > 1
		} else {
			r.Notes = append(r.Notes, fmt.Sprintf("%s is left over when the routes are ready: delete it then", key))
		}
	}
}

// noteOutage says how a route through a gateway begins. The VirtualService goes last: without it, requests bypass the gateway.
func (i *Imported) noteOutage() {
	slices.SortStableFunc(i.outage, func(a, b translate.Key) int { return translate.Rank(a.Kind) - translate.Rank(b.Kind) })
	var names []string
	for _, key := range i.outage {
		names = append(names, key.String())
	}
	i.Notes = append(i.Notes, fmt.Sprintf("the change is an outage: the operator cannot take the old objects over, and the route is refused beside them. "+
		"Stop the workloads that call %s: meanwhile their requests fail, or bypass the gateway in plaintext. Delete, in this order: %s. "+
		"Start the workloads when the route is ready",
		joined(i.Route.Spec.Hosts), strings.Join(names, ", ")))
	if i.together {
		i.Notes = append(i.Notes, "other routes through the gateway need the same objects gone: make these changes at once")
	}
	if i.shared {
		i.Notes = append(i.Notes, "the route may stay refused until the objects that others use, too, are gone")
	}
}

func joined[T ~string](values []T) string {
	var words []string
	for _, v := range values {
		words = append(words, string(v))
	}
	return strings.Join(words, ", ")
}

// neededEntry says what depends on an entry, empty if nothing does.
func (i *importer) neededEntry(e *networkingv1.ServiceEntry) string {
	if user := i.user(e, e.Spec.ExportTo, e.Spec.Hosts, i.remains); user != "" {
		return user
	}
	for _, other := range i.entries {
		if other != e && len(i.stays[translate.KeyOf(other)]) > 0 && meet(e.Spec.Hosts, other.Spec.Hosts) && reaches(other, other.Spec.ExportTo, e.Namespace) {
			return fmt.Sprintf("%s has its host too, and stays", nameIn(other, e.Namespace))
		}
	}
	return ""
}

// neededRule says what depends on a rule, empty if nothing does.
func (i *importer) neededRule(r *networkingv1.DestinationRule) string {
	hosts := []string{r.Spec.Host}
	if strings.HasPrefix(r.Spec.Host, "*") {
		return fmt.Sprintf("it decides about all hosts %s", r.Spec.Host)
	}
	for _, e := range i.entries {
		if left := i.remains(e) || i.alone(r) && !i.handedOver[translate.KeyOf(e)]; left && meet(e.Spec.Hosts, hosts) && reaches(e, e.Spec.ExportTo, r.Namespace) {
			return fmt.Sprintf("%s has its host, and is not handed over", nameIn(e, r.Namespace))
		}
	}
	return i.user(r, r.Spec.ExportTo, hosts, i.remains)
}

// alone reports whether a single route replaces an object, and not through a gateway.
func (i *importer) alone(object translate.Object) bool {
	users := i.used[translate.KeyOf(object)]
	return len(users) == 1 && !users[0].overGateway()
}

// neededGateway says which VirtualService needs a Gateway, empty if none does.
func (i *importer) neededGateway(gateway translate.Object) string {
	for _, v := range i.virtualServices {
		if i.remains(v) && slices.ContainsFunc(v.Spec.Gateways, func(name string) bool { return namesGateway(v, name, gateway) }) {
			return fmt.Sprintf("%s uses it, and stays", nameIn(v, gateway.GetNamespace()))
		}
	}
	return ""
}

// remains reports whether an object does its work beside the routes.
func (i *importer) remains(object translate.Object) bool {
	key := translate.KeyOf(object)
	return !i.handedOver[key] && !i.leftOver[key]
}

// staying says which object that stays uses the hosts of an entry, empty if none does. A route beside it would serve the same host.
func (i *importer) staying(e *networkingv1.ServiceEntry) string {
	if adopt := e.Annotations[v1alpha1.AdoptAnnotation]; adopt != "" && !i.writes(e.Namespace, adopt) {
		works := i.Working[types.NamespacedName{Namespace: e.Namespace, Name: adopt}]
		if works || !strings.EqualFold(adopt, e.Name) { // or else the route will be made from the entry
			return takenOver(adopt)
		}
	}
	return i.user(e, e.Spec.ExportTo, e.Spec.Hosts, func(object translate.Object) bool { return len(i.stays[translate.KeyOf(object)]) > 0 })
}

func takenOver(route string) string {
	return fmt.Sprintf("it is handed over to ExternalRoute %s already, which deletes it when the traffic has moved", route)
}

// writes reports whether one of the routes has that name.
func (i *importer) writes(namespace, name string) bool {
	return slices.ContainsFunc(i.routes, func(r *Imported) bool { return r.Route.Namespace == namespace && r.Route.Name == name })
}

// user says which VirtualService of those that remain refers to one of the hosts, or which object that could not be read may do so.
func (i *importer) user(object translate.Object, exportTo, hosts []string, remains func(translate.Object) bool) string {
	for _, v := range i.virtualServices {
		if remains(v) && refers(v, hosts) {
			return fmt.Sprintf("%s uses it, and stays", nameIn(v, object.GetNamespace()))
		}
	}
	for _, u := range i.Unread {
		switch u.Kind {
		case translate.VirtualServiceKind.GVK.Kind, translate.ServiceEntryKind.GVK.Kind:
			if (len(u.Hosts) == 0 || meet(u.Hosts, hosts)) && reaches(object, exportTo, u.Namespace) {
				return fmt.Sprintf("%s %s/%s cannot be read, and may depend on it", u.Kind, u.Namespace, u.Name)
			}
		}
	}
	return ""
}

// keepRules notes the rules that stay although a route would conflict with them: the routes must be written again.
func (i *importer) keepRules() {
	for _, r := range i.rules {
		key := translate.KeyOf(r)
		if i.handedOver[key] || i.kept[key] != "" {
			continue
		}
		if slices.ContainsFunc(i.used[key], func(route *Imported) bool { return !isPrivate(route.Route) && !route.overGateway() }) {
			i.kept[key], i.again = i.whyKept(r), true
		}
	}
}

func (i *importer) whyKept(r *networkingv1.DestinationRule) string {
	for _, e := range i.entries { // the entry's own reason, which the next attempt does not reach
		if reasons := i.stays[translate.KeyOf(e)]; len(reasons) > 0 && meet(e.Spec.Hosts, []string{r.Spec.Host}) && !strings.HasPrefix(r.Spec.Host, "*") {
			return fmt.Sprintf("%s stays (%s)", translate.KeyOf(e), reasons[0])
		}
	}
	if needed := i.neededRule(r); needed != "" {
		return needed
	}
	if reasons := i.stays[translate.KeyOf(r)]; len(reasons) > 0 {
		return reasons[0]
	}
	if adopt := r.Annotations[v1alpha1.AdoptAnnotation]; adopt != "" && i.alone(r) {
		return takenOver(adopt)
	}
	return "other routes replace it too: import again when they are ready"
}

// refers reports whether a VirtualService sends requests to one of the hosts, mirrored ones too, or is for those that workloads send there.
func refers(v *networkingv1.VirtualService, hosts []string) bool {
	if inMesh := len(v.Spec.Gateways) == 0 || slices.Contains(v.Spec.Gateways, "mesh"); inMesh && meet(v.Spec.Hosts, hosts) {
		return true
	}
	return slices.ContainsFunc(destinations(&v.Spec), func(to *istio.Destination) bool { return meet([]string{to.Host}, hosts) })
}

// destinations are all the destinations in a message, whatever field has them.
func destinations(message proto.Message) (all []*istio.Destination) {
	var visit func(protoreflect.Message)
	visit = func(m protoreflect.Message) {
		if to, is := m.Interface().(*istio.Destination); is {
			all = append(all, to)
			return
		}
		m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			switch {
			case field.Message() == nil || field.IsMap():
			case field.IsList():
				for n := range value.List().Len() {
					visit(value.List().Get(n).Message())
				}
			default:
				visit(value.Message())
			}
			return true
		})
	}
	visit(message.ProtoReflect())
	return all
}

// meet reports whether a host of one list is one of the other, or matches it with a wildcard.
func meet(some, others []string) bool {
	return slices.ContainsFunc(some, func(a string) bool {
		return slices.ContainsFunc(others, func(b string) bool { return matches(a, b) || matches(b, a) })
	})
}

// matches reports whether a host, which may have a wildcard, is for another.
func matches(pattern, host string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*")
	return pattern == host || wild && strings.HasSuffix(host, suffix)
}

// reaches reports whether an object counts in a namespace.
func reaches(object translate.Object, exportTo []string, namespace string) bool {
	return object.GetNamespace() == namespace || len(exportTo) == 0 || slices.Contains(exportTo, "*") || slices.Contains(exportTo, namespace)
}

// nameIn names an object for readers who think of a namespace.
func nameIn(object translate.Object, namespace string) string {
	if object.GetNamespace() == namespace {
		return translate.KeyOf(object).String()
	}
	return fmt.Sprintf("%s %s/%s", translate.KeyOf(object).Kind, object.GetNamespace(), object.GetName())
}

// realHosts are the hosts of a route that its ServiceEntries have, unless they are private.
func (i *Imported) realHosts() (hosts []string) {
	for _, d := range i.Route.Spec.Destinations {
		_, host, _, _ := splitURL(string(d.URL))
		hosts = append(hosts, host)
	}
	if len(hosts) == 0 { // TLS passes through
		for _, h := range i.Route.Spec.Hosts {
			hosts = append(hosts, string(h))
		}
	}
	return hosts
}

func (i *Imported) overGateway() bool { return i.Route.Spec.EgressGateway != nil }
