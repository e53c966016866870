package controller

import (
	"context"
	"sync/atomic"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// istioKinds are the kinds that a route is made of.
func istioKinds() []client.Object {
	return []client.Object{&networkingv1.ServiceEntry{}, &networkingv1.DestinationRule{}, &networkingv1.VirtualService{}}
}

// istioCRDs waits for Istio's CustomResourceDefinitions. The operator may be installed before Istio is.
type istioCRDs struct {
	mapper meta.RESTMapper
	ready  atomic.Bool
	// arrive is called once, when all of them are served: it begins to watch, and wakes the routes.
	arrive func(context.Context) error
}

func (i *istioCRDs) installed() bool { return i.ready.Load() }

// served asks the API server whether it serves all kinds.
func (i *istioCRDs) served() (bool, error) {
	for _, kind := range []string{"ServiceEntry", "DestinationRule", "VirtualService"} {
		gk := schema.GroupKind{Group: networkingv1.SchemeGroupVersion.Group, Kind: kind}
		_, err := i.mapper.RESTMapping(gk, networkingv1.SchemeGroupVersion.Version)
		if meta.IsNoMatchError(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// Start asks every second until they are there. It runs only where they were missing when the operator started.
func (i *istioCRDs) Start(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("istio")
	log.Info("Waited for Istio's CustomResourceDefinitions")
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(context.Context) (bool, error) {
		served, err := i.served()
		if err != nil {
			log.Error(err, "Asked for Istio's CustomResourceDefinitions")
		}
		return served, nil
	})
	if err != nil { // the operator stops
		return nil //nolint:nilerr // the context's end is no failure
	}
	log.Info("Found Istio's CustomResourceDefinitions")
	return i.arrive(ctx)
}
