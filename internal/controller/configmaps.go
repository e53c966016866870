package controller

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// configMapWatch looks whether ConfigMaps exist, by their metadata alone, and begins to watch them when the first route names one. It begins in the
// background: where it may not, the routes that name one wait, and the others are not held up.
type configMapWatch struct {
	client client.Reader
	// watch blocks until the cache is filled, or fails. tell wakes the routes.
	watch func() error
	tell  func(context.Context) error
	// life is the operator's.
	life context.Context //nolint:containedctx // what begins here outlives the call that asks for it

	begin  sync.Once
	filled atomic.Bool
}

// exists says whether there is a ConfigMap, and whether that is known yet.
func (c *configMapWatch) exists(ctx context.Context, key types.NamespacedName) (exists, known bool, err error) {
	c.begin.Do(func() { go c.fill() })
	if !c.filled.Load() {
		return false, false, nil
	}
	err = c.client.Get(ctx, key, configMapMetadata())
	if apierrors.IsNotFound(err) {
		return false, true, nil
	}
	return err == nil, true, err
}

func (c *configMapWatch) fill() {
	log := ctrl.Log.WithName("configmaps")
	err := wait.PollUntilContextCancel(c.life, time.Second, true, func(context.Context) (bool, error) {
		err := c.watch()
		if err != nil {
			log.Error(err, "Watched ConfigMaps")
		}
		return err == nil, nil
	})
	if err != nil { // the operator stops
		return
	}
	c.filled.Store(true)
	if err := c.tell(c.life); err != nil {
		log.Error(err, "Woke routes")
	}
}

func configMapMetadata() *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ConfigMap"}}
}
