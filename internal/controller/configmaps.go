package controller

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// configMapWatch looks whether ConfigMaps exist, by their metadata alone, and begins to watch them when the first route names one.
type configMapWatch struct {
	client client.Reader
	watch  func() error

	mu      sync.Mutex
	watches bool
}

func (c *configMapWatch) exists(ctx context.Context, key types.NamespacedName) (bool, error) {
	if err := c.ensureWatch(); err != nil {
		return false, err
	}
	err := c.client.Get(ctx, key, configMapMetadata())
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func (c *configMapWatch) ensureWatch() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watches {
		return nil
	}
	err := c.watch()
	c.watches = err == nil
	return err
}

func configMapMetadata() *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ConfigMap"}}
}
