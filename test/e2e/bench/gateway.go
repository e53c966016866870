//go:build linux

package bench

import (
	"context"
	"fmt"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Gateway is an Envoy that istiod configures as a gateway: a pod behind a Service with the ports of Istio's chart, 80 and 443, which listens on 8080 and
// 8443. It writes an access log.
type Gateway struct {
	*App

	Name string // of its Service and its ServiceAccount

	labels map[string]string
	ports  map[string]gatewayPort
}

type gatewayPort struct{ service, pod int32 }

// Gateway starts a gateway in a namespace, which is created when it is missing, and ends it with the test, as App does.
func (b *Bench) Gateway(t *testing.T, namespace, name string) *Gateway {
	t.Helper()
	g := &Gateway{App: b.newApp(namespace), Name: name, labels: map[string]string{"app": name}, ports: map[string]gatewayPort{"http2": {80, 8080}, "https": {443, 8443}}}
	t.Cleanup(g.end)
	if err := g.startGateway(t.Context(), proxy{kind: "router"}); err != nil {
		t.Fatalf("start the gateway %s/%s: %v (logs: %s)", namespace, name, err, b.Dir)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *Gateway) startGateway(ctx context.Context, p proxy) error {
	p.account, p.labels = g.Name, g.labels
	if err := g.start(ctx, p); err != nil {
		return err
	}
	if err := g.createPod(ctx); err != nil {
		return err
	}
	return g.createService(ctx)
}

func (g *Gateway) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name, Labels: maps.Clone(g.labels)}
}

// createPod tells istiod whose the gateway's address is: there is no kubelet.
func (g *Gateway) createPod(ctx context.Context) error {
	pod := &corev1.Pod{ObjectMeta: g.meta(), Spec: corev1.PodSpec{
		ServiceAccountName: g.Name,
		Containers:         []corev1.Container{{Name: "istio-proxy", Image: "envoy"}},
	}}
	if err := g.bench.Cluster.Create(ctx, pod); err != nil {
		return err
	}
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: g.address, PodIPs: []corev1.PodIP{{IP: g.address}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	return g.bench.Cluster.Status().Update(ctx, pod)
}

// createService makes the Service with its endpoints, and leads connections to its address to the pod, as kube-proxy would.
func (g *Gateway) createService(ctx context.Context) error {
	service := &corev1.Service{ObjectMeta: g.meta(), Spec: corev1.ServiceSpec{Selector: g.labels}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  g.meta(),
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{g.address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: g.Namespace, Name: g.Name},
		}},
	}
	slice.Labels[discoveryv1.LabelServiceName] = g.Name
	for name, port := range g.ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: name, Port: port.service, TargetPort: intstr.FromInt32(port.pod)})
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(name), Port: new(port.pod)})
	}
	for _, object := range []client.Object{service, slice} {
		if err := g.bench.Cluster.Create(ctx, object); err != nil {
			return err
		}
	}
	for _, port := range g.ports {
		if err := g.bench.world.run(fmt.Sprintf("iptables -t nat -A PREROUTING -d %s -p tcp --dport %d -j DNAT --to-destination %s:%d",
			service.Spec.ClusterIP, port.service, g.address, port.pod)); err != nil {
			return err
		}
	}
	return nil
}

// Host is the name of the gateway's Service.
func (g *Gateway) Host() string { return g.Name + "." + g.Namespace + "." + services }
