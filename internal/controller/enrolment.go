package controller

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

// namespaceLag is how long a new route waits for its namespace: the watch of namespaces may be behind that of routes, and a condition that comes later is
// another write.
const namespaceLag = time.Second

// readNamespace reads the labels of the route's namespace, and returns how long to wait for them.
func (r *Reconciler) readNamespace(ctx context.Context, p *pass) (wait time.Duration, err error) {
	if p.namespace, err = r.cluster.Namespace(ctx, p.route.Namespace); err != nil || !p.namespace.Watched || p.namespace.Found {
		return 0, err
	}
	return max(0, namespaceLag-p.now.Sub(p.state.moments.Began)), nil
}

// setEnrolment sets the MeshEnrolled condition, or removes it if the operator cannot read namespaces. Until it has read them, the condition stays.
func (p *pass) setEnrolment(status *v1alpha1.ExternalRouteStatus) {
	switch {
	case p.namespace.Found:
		p.set(status, translate.Enrolment(p.route, p.namespace.Labels))
	case p.namespace.Unreadable:
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionMeshEnrolled)
	}
}
