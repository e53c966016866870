package conflict

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// World answers questions about routes, and about other people's objects. A cluster answers them from its caches, the
// command line from a list of files. An answer that could not be found out is empty, and Err returns why.
type World interface {
	// Named returns the object of that kind and name, nil if there is none. It may be the route's own.
	Named(key translate.Key) *Named
	// VirtualServices returns those of other people that claim the host, in Istio's order.
	VirtualServices(host string) []VirtualService
	// ServiceEntries and DestinationRules return those of other people for a host in a namespace, in Istio's order. ServiceEntries has those that Istio makes
	// of other kinds too.
	ServiceEntries(namespace, host string) []ServiceEntry
	DestinationRules(namespace, host string) []DestinationRule
	// Gateways returns those of other people, in Istio's order.
	Gateways() []Gateway
	// HTTPRoutes returns the routes of the Gateway API whose parent is the Service.
	HTTPRoutes(service types.NamespacedName) []HTTPRoute
	// Holders returns the claims of routes that clash with the claim.
	Holders(claim Claim) []Holder
	// Asking returns the routes of a namespace that compete for what is claimed: they ask for it, and are not refused for anything but a conflict.
	Asking(namespace string, claim Claim) []*v1alpha1.ExternalRoute
	// Route returns the route of a name with the egress gateway that policies set for it, nil if there is none.
	Route(name types.NamespacedName) *v1alpha1.ExternalRoute
	// Err returns the first failure of the answers given so far.
	Err() error
}

// Named is an object that has the name of a generated one.
type Named struct {
	Identity
	UID types.UID
	// Controller is its controlling owner, nil if it has none.
	Controller *metav1.OwnerReference
	// Adopt is the name of the route that the object is handed over to, empty if to none.
	Adopt string
}

// Holder is a claim of a route.
type Holder struct {
	// Identity has the name of the route, and the creation time of its object that makes the claim. It is zero for a route that is about to write.
	Identity
	Claim Claim
}
