package importer

import (
	"maps"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/conflict"
	"github.com/externalroute/externalroute/internal/translate"
)

// judge asks what the operator will say when all is handed over. If it refuses a route, another attempt gives that a private upstream name, and then there is
// none. Routes through a gateway are refused, and say so.
func (i *importer) judge() {
	w := &world{importer: i}
	for _, object := range i.all {
		handedOver, is := object.DeepCopyObject().(translate.Object)
		if !is || !i.handedOver[translate.KeyOf(object)] {
			w.objects = append(w.objects, object)
			continue
		}
		annotations := map[string]string{}
		maps.Copy(annotations, object.GetAnnotations())
		annotations[v1alpha1.AdoptAnnotation] = i.used[translate.KeyOf(object)][0].Route.Name
		handedOver.SetAnnotations(annotations)
		w.objects = append(w.objects, handedOver)
	}
	for _, r := range i.routes {
		if r.overGateway() {
			continue
		}
		verdict := conflict.Judge(conflict.Route{ExternalRoute: r.admitted, Wanted: r.translation, ClusterDomain: i.clusterDomain}, w)
		if verdict.Refusal == nil {
			continue
		}
		message, known := verdict.Refusal.Message(), true
		for _, object := range r.objects[1:] {
			if key := translate.KeyOf(object); i.kept[key] == "" {
				i.kept[key], known = message, false
			}
		}
		if known {
			i.refused[translate.KeyOf(r.objects[0])] = "the operator would refuse the route: " + message
		}
		i.again = true
	}
}

// world is a cluster that holds the old objects, those that a route replaces handed over, and the routes.
type world struct {
	*importer
	objects []translate.Object
}

var _ conflict.World = &world{}

func (w *world) Named(key translate.Key) *conflict.Named {
	at := slices.IndexFunc(w.objects, func(o translate.Object) bool { return translate.KeyOf(o) == key })
	if at < 0 {
		return nil
	}
	o := w.objects[at]
	return &conflict.Named{
		Identity: conflict.IdentityOf(o), UID: o.GetUID(), Controller: metav1.GetControllerOf(o), Adopt: o.GetAnnotations()[v1alpha1.AdoptAnnotation],
	}
}

func (w *world) VirtualServices(host string) []conflict.VirtualService {
	return facts(w.objects, conflict.Name{Host: host}, func(v *networkingv1.VirtualService) conflict.VirtualService {
		return conflict.VirtualServiceFacts(v, w.clusterDomain)
	})
}

func (w *world) ServiceEntries(namespace, host string) []conflict.ServiceEntry {
	return facts(w.objects, conflict.Name{Namespace: namespace, Host: host}, conflict.ServiceEntryFacts)
}

func (w *world) DestinationRules(namespace, host string) []conflict.DestinationRule {
	return facts(w.objects, conflict.Name{Namespace: namespace, Host: host}, conflict.DestinationRuleFacts)
}

type fact interface {
	Claims() []conflict.Name
	Identify() conflict.Identity
}

// facts are those of all objects of a kind that claim a name, in Istio's order.
func facts[T translate.Object, F fact](objects []translate.Object, name conflict.Name, read func(T) F) (found []F) {
	for _, o := range objects {
		if typed, is := o.(T); is {
			if f := read(typed); slices.Contains(f.Claims(), name) {
				found = append(found, f)
			}
		}
	}
	slices.SortFunc(found, func(a, b F) int { return a.Identify().Compare(b.Identify()) })
	return found
}

// Gateways returns none: only routes through a gateway have one.
func (w *world) Gateways() []conflict.Gateway { return nil }

// HTTPRoutes returns none: they are no objects of Istio's.
func (w *world) HTTPRoutes(types.NamespacedName) []conflict.HTTPRoute { return nil }

// Holders returns none: no route has written anything.
func (w *world) Holders(conflict.Claim) []conflict.Holder { return nil }

func (w *world) Asking(namespace string, _ conflict.Claim) (found []*v1alpha1.ExternalRoute) {
	for _, r := range w.routes {
		if r.Route.Namespace == namespace && !r.overGateway() {
			found = append(found, r.admitted)
		}
	}
	return found
}

// Route returns none: nothing stands that a route could leave.
func (w *world) Route(types.NamespacedName) *v1alpha1.ExternalRoute { return nil }

func (w *world) Err() error { return nil }
