package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/explain"
	"github.com/externalroute/externalroute/internal/translate"
)

const (
	podResource       = "pods"
	configMapResource = "configmaps"
	sidecarResource   = "sidecars.networking.istio.io"
	revisionLabel     = "istio.io/rev"
)

// workload is what a cluster says about the sender of a request, beyond routes.
type workload struct {
	pod *corev1.Pod // nil if only the namespace is named
	// sidecar is the Sidecar resource that applies, nil if there is none.
	sidecar *networkingv1.Sidecar
	mesh    meshSettings
	// notes are what could not be read.
	notes []string
}

// meshSettings are the settings of a mesh that matter, and the name of the ConfigMap that has them, which is empty if it was not read.
type meshSettings struct {
	RootNamespace         string                  `json:"rootNamespace"`
	OutboundTrafficPolicy struct{ Mode string }   `json:"outboundTrafficPolicy"`
	DiscoverySelectors    []*metav1.LabelSelector `json:"discoverySelectors"`
	source                string
}

// readWorkload reads what the cluster says about the sender. What the user may not read is a note.
func (e *explainer) readWorkload(request *explain.Request, w *world) (*workload, error) {
	found := &workload{}
	if request.Pod != "" {
		pods, err := e.getIn(request.Namespace, podResource, request.Pod)
		if err != nil {
			return nil, fmt.Errorf("read Pod %s/%s: %w", request.Namespace, request.Pod, err)
		}
		found.pod = &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(pods[0].Object, found.pod); err != nil {
			return nil, err
		}
		if request.Labels = found.pod.Labels; request.Labels == nil {
			request.Labels = map[string]string{}
		}
	}
	revision := w.namespaces[request.Namespace][revisionLabel]
	if found.pod != nil {
		revision = cmp.Or(found.pod.Labels[revisionLabel], revision)
	}
	if err := e.readMesh(found, revision); err != nil {
		return nil, err
	}
	return found, e.readSidecar(found, request)
}

// readMesh reads the ConfigMap of a revision of Istio.
func (e *explainer) readMesh(found *workload, revision string) error {
	name := "istio"
	if revision != "" && revision != "default" {
		name += "-" + revision
	}
	maps, err := e.getIn(e.istioNamespace, configMapResource, name)
	if unreadable(err) {
		found.notes = append(found.notes, fmt.Sprintf("the settings of the mesh are not known: %v", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ConfigMap %s/%s: %w", e.istioNamespace, name, err)
	}
	data, _ := maps[0].Object["data"].(map[string]any)
	text, _ := data["mesh"].(string)
	if err := yaml.Unmarshal([]byte(text), &found.mesh); err != nil {
		return fmt.Errorf("read ConfigMap %s/%s: %w", e.istioNamespace, name, err)
	}
	found.mesh.source = e.istioNamespace + "/" + name
	return nil
}

func unreadable(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) }

// readSidecar finds the Sidecar resource that applies to the sender: one that selects the pod, that of its namespace, or that of the root namespace. Istio
// takes the oldest of several.
func (e *explainer) readSidecar(found *workload, request *explain.Request) error {
	if served, err := e.serves(sidecarResource); !served || err != nil {
		return err
	}
	root := cmp.Or(found.mesh.RootNamespace, e.istioNamespace)
	for _, namespace := range slices.Compact([]string{request.Namespace, root}) {
		manifests, err := e.getIn(namespace, sidecarResource)
		if unreadable(err) {
			found.notes = append(found.notes, fmt.Sprintf("the Sidecars of namespace %s were not read: %v", namespace, err))
			continue
		}
		if err != nil {
			return fmt.Errorf("read the Sidecars of namespace %s: %w", namespace, err)
		}
		var all []*networkingv1.Sidecar
		for _, m := range manifests {
			sidecar := &networkingv1.Sidecar{}
			raw, err := m.MarshalJSON()
			if err := errors.Join(err, json.Unmarshal(raw, sidecar)); err != nil {
				return fmt.Errorf("read Sidecar %s/%s: %w", namespace, m.GetName(), err)
			}
			all = append(all, sidecar)
		}
		if found.sidecar = sidecarFor(all, request, namespace); found.sidecar != nil {
			return nil
		}
	}
	return nil
}

// sidecarFor is the one that applies, nil if none does.
func sidecarFor(all []*networkingv1.Sidecar, request *explain.Request, namespace string) *networkingv1.Sidecar {
	slices.SortFunc(all, func(a, b *networkingv1.Sidecar) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var general *networkingv1.Sidecar
	for _, s := range all {
		selects := s.Spec.WorkloadSelector.GetLabels()
		switch {
		case len(selects) == 0 && general == nil:
			general = s
		case len(selects) > 0 && namespace == request.Namespace && request.Labels != nil && labels.SelectorFromSet(selects).Matches(labels.Set(request.Labels)):
			return s
		}
	}
	return general
}

// hides says why the Sidecar resource keeps the hosts of a namespace's object from the sender on a port, empty if it does not.
func (f *workload) hides(sender, owner string, hosts []string, port uint32) string {
	if f.sidecar == nil || len(f.sidecar.Spec.Egress) == 0 {
		return ""
	}
	isPort := func(l *istio.IstioEgressListener) bool { return l.Port.GetNumber() == port }
	ofPort := slices.ContainsFunc(f.sidecar.Spec.Egress, isPort)
	for _, listener := range f.sidecar.Spec.Egress {
		if isPort(listener) != ofPort || !ofPort && listener.Port != nil {
			continue
		}
		if slices.ContainsFunc(listener.Hosts, func(pattern string) bool { return imports(pattern, sender, owner, hosts) }) {
			return ""
		}
	}
	name := f.sidecar.Namespace + "/" + f.sidecar.Name
	return fmt.Sprintf("Sidecar %s hides it from the workload: add %s/%s to its spec.egress.hosts", name, owner, hosts[0])
}

// imports reports whether a host of spec.egress covers one of the hosts of an object.
func imports(pattern, sender, owner string, hosts []string) bool {
	namespace, name, _ := strings.Cut(pattern, "/")
	if namespace != "*" && namespace != owner && (namespace != "." || sender != owner) {
		return false
	}
	return slices.ContainsFunc(hosts, func(host string) bool {
		suffix, wildcard := strings.CutPrefix(name, "*")
		return host == name || wildcard && strings.HasSuffix(host, suffix)
	})
}

// remarks say what keeps the mesh from doing what an answer says, or what it does with a request that no route takes.
func (f *workload) remarks(request explain.Request, w *world, answer explain.Answer, route *v1alpha1.ExternalRoute) []string {
	all := slices.Clone(f.notes)
	if route != nil {
		all = append(all, f.enrolment(request.Namespace, w, route)...)
	}
	for _, namespace := range slices.Compact(slices.DeleteFunc([]string{request.Namespace, namespaceOf(route)}, func(n string) bool { return n == "" })) {
		if has, known := w.namespaces[namespace]; known && !f.mesh.discovers(has) {
			all = append(all, fmt.Sprintf("istiod ignores namespace %s: none of the discoverySelectors of ConfigMap %s selects its labels", namespace, f.mesh.source))
		}
	}
	if answer.Outcome == explain.NotServed {
		all = append(all, f.outbound()...)
	}
	return all
}

func namespaceOf(route *v1alpha1.ExternalRoute) string {
	if route == nil {
		return ""
	}
	return route.Namespace
}

func (m *meshSettings) discovers(namespace map[string]string) bool {
	if len(m.DiscoverySelectors) == 0 {
		return true
	}
	return slices.ContainsFunc(m.DiscoverySelectors, func(s *metav1.LabelSelector) bool {
		selector, err := metav1.LabelSelectorAsSelector(s)
		return err == nil && selector.Matches(labels.Set(namespace))
	})
}

// outside says why routes without a waypoint do not apply to the pod, empty if they do.
func (f *workload) outside() string {
	if f.pod == nil || hasSidecar(f.pod) {
		return ""
	}
	return fmt.Sprintf("pod %s has no container istio-proxy, and pods without a sidecar do not use the route: restart it in a namespace that injects sidecars",
		f.pod.Name)
}

// enrolment says why the pods of the sender's namespace do not use the route.
func (f *workload) enrolment(namespace string, w *world, route *v1alpha1.ExternalRoute) []string {
	has, known := w.namespaces[namespace]
	if c := translate.Enrolment(route, has); f.pod == nil && known && c.Status == metav1.ConditionFalse {
		return []string{fmt.Sprintf("namespace %s: %s", namespace, c.Message)}
	}
	return nil
}

func hasSidecar(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers), func(c corev1.Container) bool { return c.Name == "istio-proxy" })
}

// outbound says what sidecars do with a host that nobody has registered.
func (f *workload) outbound() []string {
	mode, source, known := f.mesh.OutboundTrafficPolicy.Mode, "ConfigMap "+f.mesh.source, f.mesh.source != ""
	if s := f.sidecar; s != nil && s.Spec.OutboundTrafficPolicy != nil {
		mode, source, known = s.Spec.OutboundTrafficPolicy.Mode.String(), fmt.Sprintf("Sidecar %s/%s", s.Namespace, s.Name), true
	}
	switch {
	case !known:
		return nil
	case mode == "REGISTRY_ONLY":
		return []string{"sidecars block hosts that nobody has registered: " + source + " sets outboundTrafficPolicy REGISTRY_ONLY"}
	}
	return []string{"sidecars let a request to a host that nobody has registered leave as it is: " + source + " does not set outboundTrafficPolicy REGISTRY_ONLY"}
}

// refusalOf is a refusal that only the operator knows of.
func refusalOf(c *metav1.Condition) *translate.Refusal {
	path := field.NewPath("status", "conditions").Key(c.Type)
	return &translate.Refusal{Reason: c.Reason, Problems: field.ErrorList{translate.Blocked(path, "%s", c.Message)}}
}

// said adds to a route what the operator says of it in its status: it may know of more than the commands read.
func (w *world) said(route *explain.Route, j *judged) {
	status := statusOf(j.manifest)
	note := func(format string, args ...any) { route.Notes = append(route.Notes, fmt.Sprintf(format, args...)) }
	programmed := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionProgrammed)
	w.refuse(route, j, meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAccepted), programmed)
	if route.Refusal != nil {
		if route.Standing = sorted(w.owned[j.GetUID()]); w.mayServe(route.Standing, j.GetNamespace()) {
			note("objects of an earlier spec may serve: you may not read them")
		}
		return
	}
	if unseen(j.manifest) {
		note(notSeen)
		return
	}
	switch {
	case programmed == nil || programmed.Reason == v1alpha1.ReasonProgrammed:
	case programmed.Status == metav1.ConditionTrue:
		note("%s", programmed.Message)
	default:
		note("the mesh may not do that yet: condition Programmed is %s (%s): %s", programmed.Status, programmed.Reason, programmed.Message)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionDirectHTTPS); c != nil {
		note("%s", c.Message)
	}
}

// mayServe reports whether objects that were not read may serve requests, beside those that stand.
func (w *world) mayServe(standing []translate.Object, namespace string) bool {
	isTraffic := func(o translate.Object) bool { return translate.KeyOf(o).Kind == "VirtualService" }
	isUnread := func(kind string) bool { return w.unread(generatedResources[kind], namespace) }
	return !slices.ContainsFunc(standing, isTraffic) && slices.ContainsFunc([]string{"VirtualService", "ServiceEntry"}, isUnread)
}

// refuse adds the operator's refusal of a spec. A spec has no effect either if the objects are not as it asks, unless the operator reports that they are.
func (w *world) refuse(route *explain.Route, j *judged, accepted, programmed *metav1.Condition) {
	if unseen(j.manifest) {
		accepted, programmed = nil, &metav1.Condition{Type: v1alpha1.ConditionProgrammed, Reason: v1alpha1.ReasonPending, Message: notSeen}
	}
	switch {
	case route.Refusal != nil && route.Verb == "":
	case accepted != nil && accepted.Status == metav1.ConditionFalse:
		route.Refusal, route.Verb = refusalOf(accepted), ""
	case route.Refusal != nil:
	case programmed != nil && programmed.Reason != v1alpha1.ReasonProgrammed && !w.stands(j):
		route.Refusal, route.Verb = refusalOf(programmed), "is not in effect"
	}
}

// stands reports whether the objects of a translated route are in the cluster as its spec asks, as far as they were read.
func (w *world) stands(j *judged) bool {
	for key, want := range wantedBy(j.translation) {
		if is := w.stateOf(key, want, w.owned[j.GetUID()][key]); is != statePresent && is != stateUnread {
			return false
		}
	}
	return true
}
