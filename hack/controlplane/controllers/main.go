// Command controllers runs the few controllers of kube-controller-manager that make deletion and ServiceAccounts real, from Kubernetes' own packages. Beside
// kube-apiserver, kube-controller-manager itself takes minutes to compile, and this takes seconds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	tokens "k8s.io/kubernetes/pkg/serviceaccount"
)

const (
	workers = 20
	// discoveryPeriod is how often the controllers look for kinds that came or went, as in kube-controller-manager.
	discoveryPeriod = 30 * time.Second
	resyncPeriod    = 12 * time.Hour
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "The kubeconfig of the cluster.")
	keyFile := flag.String("service-account-private-key-file", "", "The key that signs the tokens of ServiceAccount Secrets.")
	names := flag.String("controllers", "garbage-collector,namespace,serviceaccount,serviceaccount-token", "The controllers to run, separated by commas.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *keyFile, strings.Split(*names, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "controllers:", err)
		os.Exit(1)
	}
}

// more are controllers that only a build with their tag has.
var more = map[string]func(context.Context, *cluster) (func(context.Context), error){}

// cluster is what every controller is made of.
type cluster struct {
	client    kubernetes.Interface
	metadata  metadata.Interface
	typed     informers.SharedInformerFactory
	untyped   metadatainformer.SharedInformerFactory
	started   chan struct{} // closed when the informers run
	mapper    *restmapper.DeferredDiscoveryRESTMapper
	authority []byte
	keyFile   string
}

func run(ctx context.Context, kubeconfig, keyFile string, names []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	c, err := connect(config)
	if err != nil {
		return err
	}
	c.keyFile = keyFile
	constructors := map[string]func(context.Context) (func(context.Context), error){
		"garbage-collector":    c.garbageCollector,
		"namespace":            c.namespaces,
		"serviceaccount":       c.serviceAccounts,
		"serviceaccount-token": c.serviceAccountTokens,
	}
	for name, construct := range more {
		constructors[name] = func(ctx context.Context) (func(context.Context), error) { return construct(ctx, c) }
	}
	var runs []func(context.Context)
	for _, name := range names {
		construct, known := constructors[name]
		if !known {
			return fmt.Errorf("no controller is named %q", name)
		}
		run, err := construct(ctx)
		if err != nil {
			return fmt.Errorf("set up the %s controller: %w", name, err)
		}
		runs = append(runs, run)
	}
	go wait.UntilWithContext(ctx, func(context.Context) { c.mapper.Reset() }, discoveryPeriod)
	c.typed.Start(ctx.Done())
	c.untyped.Start(ctx.Done())
	close(c.started)
	for _, run := range runs {
		go run(ctx)
	}
	klog.FromContext(ctx).Info("Started", "controllers", names)
	<-ctx.Done()
	return nil
}

func connect(config *rest.Config) (*cluster, error) {
	config.QPS = -1 // the API server's own priority and fairness is the limit
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	untyped, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &cluster{
		client:    client,
		metadata:  untyped,
		typed:     informers.NewSharedInformerFactory(client, resyncPeriod),
		untyped:   metadatainformer.NewSharedInformerFactory(untyped, resyncPeriod),
		started:   make(chan struct{}),
		mapper:    restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery())),
		authority: config.CAData,
	}, nil
}

func (c *cluster) informers() informerfactory.InformerFactory {
	return informerfactory.NewInformerFactory(c.typed, c.untyped)
}

func (c *cluster) garbageCollector(ctx context.Context) (func(context.Context), error) {
	ignored := map[schema.GroupResource]struct{}{}
	for resource := range garbagecollector.DefaultIgnoredResources() {
		ignored[resource] = struct{}{}
	}
	graph := garbagecollector.NewDependencyGraphBuilder(ctx, c.metadata, c.mapper, ignored, c.informers(), c.started)
	collector, err := garbagecollector.NewComposedGarbageCollector(ctx, c.client, c.metadata, c.mapper, graph)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		go collector.Sync(ctx, c.client.Discovery(), discoveryPeriod)
		collector.Run(ctx, workers, discoveryPeriod)
	}, nil
}

func (c *cluster) namespaces(ctx context.Context) (func(context.Context), error) {
	controller := namespace.NewNamespaceController(ctx, c.client, c.metadata, c.client.Discovery().ServerPreferredNamespacedResources,
		c.typed.Core().V1().Namespaces(), 5*time.Minute, corev1.FinalizerKubernetes)
	return func(ctx context.Context) { controller.Run(ctx, workers) }, nil
}

func (c *cluster) serviceAccounts(ctx context.Context) (func(context.Context), error) {
	controller, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), c.typed.Core().V1().ServiceAccounts(),
		c.typed.Core().V1().Namespaces(), c.client, serviceaccount.DefaultServiceAccountsControllerOptions())
	return func(ctx context.Context) { controller.Run(ctx, 1) }, err
}

func (c *cluster) serviceAccountTokens(ctx context.Context) (func(context.Context), error) {
	if c.keyFile == "" {
		return nil, errors.New("--service-account-private-key-file is not set")
	}
	key, err := keyutil.PrivateKeyFromFile(c.keyFile)
	if err != nil {
		return nil, err
	}
	generator, err := tokens.JWTTokenGenerator(tokens.LegacyIssuer, key)
	if err != nil {
		return nil, err
	}
	controller, err := serviceaccount.NewTokensController(klog.FromContext(ctx), c.typed.Core().V1().ServiceAccounts(), c.typed.Core().V1().Secrets(),
		c.client, serviceaccount.TokensControllerOptions{TokenGenerator: generator, RootCA: c.authority})
	return func(ctx context.Context) { controller.Run(ctx, 5) }, err
}
