package cluster

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
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// configMaps knows whether ConfigMaps exist, by their metadata alone. The first route that refers to one lets it read them, in the background: that route
// waits, and no other.
type configMaps struct {
	begin  func()
	filled atomic.Bool
	// refused is why the operator cannot read ConfigMaps, empty as long as that may pass in a moment.
	refused atomic.Value
}

// Knowledge is whether something is known of the cluster, or what keeps the operator from knowing it.
type Knowledge struct {
	Known bool
	// Why is empty if it may become known at any moment.
	Why string
}

// ConfigMap reports whether a ConfigMap exists, as far as that is known.
func (c *Cluster) ConfigMap(ctx context.Context, key types.NamespacedName) (exists bool, known Knowledge, err error) {
	c.configMaps.begin()
	if !c.configMaps.filled.Load() {
		known.Why, _ = c.configMaps.refused.Load().(string)
		return false, known, nil
	}
	known.Known = true
	err = c.cache.Get(ctx, key, configMapMetadata())
	return err == nil, known, client.IgnoreNotFound(err)
}

// readConfigMaps returns what knows of ConfigMaps as long as the operator lives.
func (c *Cluster) readConfigMaps(life context.Context, mgr manager.Manager, built controller.Controller) *configMaps {
	m, log, failures := &configMaps{}, ctrl.Log.WithName("configmaps"), 0
	retry := wait.Backoff{Duration: time.Second, Factor: 2, Steps: 6, Cap: 30 * time.Second}
	fill := func() {
		_ = retry.DelayFunc().Until(life, true, true, func(ctx context.Context) (done bool, _ error) { // it fails when the operator ends
			err := c.watchConfigMaps(ctx, mgr.GetAPIReader(), built)
			failures++
			switch lasts := apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || failures > 2; {
			case err == nil:
				m.filled.Store(true)
			case !lasts, m.refused.Swap(err.Error()) == any(err.Error()):
				return false, nil // it may pass in a moment, or is known
			default:
				log.Error(err, "Failed to watch ConfigMaps")
			}
			c.wakeAll(ctx)
			return err == nil, nil
		})
	}
	m.begin = sync.OnceFunc(func() { go fill() })
	return m
}

// watchConfigMaps returns when the cache is filled. The lists fail at once without the right to list ConfigMaps; the cache would wait for it for ever.
func (c *Cluster) watchConfigMaps(ctx context.Context, api client.Reader, built controller.Controller) error {
	for _, namespace := range c.options.namespaces() {
		list := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ConfigMapList"}}
		if err := api.List(ctx, list, client.InNamespace(namespace), client.Limit(1)); err != nil {
			return err
		}
	}
	if _, err := c.cache.GetInformer(ctx, configMapMetadata()); err != nil {
		return err
	}
	return built.Watch(source.Kind[client.Object](c.cache, configMapMetadata(), c.onObject("ConfigMap", concernConfigMap, nil)))
}

func configMapMetadata() *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ConfigMap"}}
}
