package argocd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	customizations "github.com/externalroute/externalroute/config/argocd"
	"github.com/externalroute/externalroute/internal/admission"
)

// TestCases runs health_test.yaml as Argo CD's own tests would.
func TestCases(t *testing.T) {
	var suite struct {
		Tests []struct {
			InputPath    string `json:"inputPath"`
			HealthStatus health `json:"healthStatus"`
		} `json:"tests"`
	}
	if err := yaml.UnmarshalStrict(read(t, folder+"health_test.yaml"), &suite); err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, test := range suite.Tests {
		named = append(named, folder+test.InputPath)
		t.Run(path.Base(test.InputPath), func(t *testing.T) {
			object := manifest(t, folder+test.InputPath)
			var got health
			var err error
			if got.Status, got.Message, err = Health(object); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.HealthStatus, got); diff != "" {
				t.Error(diff)
			}
			agrees(t, object)
		})
	}
	slices.Sort(named)
	if diff := cmp.Diff(manifests(t), named); diff != "" {
		t.Errorf("the manifests, and what health_test.yaml names: %s", diff)
	}
}

// TestManifestsAreReal: each is what an API server stores and what the operator says of it, and there is one for each reason.
func TestManifestsAreReal(t *testing.T) {
	judge, err := admission.New()
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]bool{}
	for _, name := range manifests(t) {
		var route v1alpha1.ExternalRoute
		if err := yaml.UnmarshalStrict(read(t, name), &route); err != nil {
			t.Fatal(err)
		}
		admitted, problems := judge.Admit(t.Context(), manifest(t, name))
		if problems != nil {
			t.Errorf("%s: %v", name, problems)
			continue
		}
		if diff := cmp.Diff(admitted.Spec, route.Spec); diff != "" {
			t.Errorf("%s is not as it is stored: %s", name, diff)
		}
		for _, condition := range route.Status.Conditions {
			reasons[condition.Reason] = true
		}
		accepted := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionAccepted)
		programmed := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionProgrammed)
		directHTTPS := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionDirectHTTPS)
		enrolled := meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionMeshEnrolled)
		want := conditions(accepted, programmed, directHTTPS, enrolled)
		if diff := cmp.Diff(want, route.Status.Conditions, cmp.FilterPath(isTime, cmp.Ignore())); diff != "" {
			t.Errorf("%s is not what the operator would say: %s", name, diff)
		}
	}
	for _, reason := range declared(t) {
		if !reasons[reason] && reason != v1alpha1.ReasonValid { // of policies
			t.Errorf("no manifest shows the reason %s", reason)
		}
	}
}

func isTime(p cmp.Path) bool { return p.Last().String() == ".LastTransitionTime" }

// TestEveryStatus goes through whatever the operator can say.
func TestEveryStatus(t *testing.T) {
	acceptances := []*metav1.Condition{
		condition(v1alpha1.ConditionAccepted, metav1.ConditionUnknown, v1alpha1.ReasonPending),
		condition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted),
	}
	programs := []*metav1.Condition{nil} // not looked at yet
	for _, reason := range declared(t) {
		acceptances = append(acceptances, condition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, reason))
		programs = append(programs, condition(v1alpha1.ConditionProgrammed, metav1.ConditionFalse, reason))
	}
	for _, reason := range []string{v1alpha1.ReasonProgrammed, v1alpha1.ReasonSuspended} {
		programs = append(programs, condition(v1alpha1.ConditionProgrammed, metav1.ConditionTrue, reason))
	}
	directs := []*metav1.Condition{nil, condition(v1alpha1.ConditionDirectHTTPS, metav1.ConditionFalse, v1alpha1.ReasonHostScopedTLS)}
	enrolments := []*metav1.Condition{
		nil, condition(v1alpha1.ConditionMeshEnrolled, metav1.ConditionTrue, v1alpha1.ReasonNamespaceEnrolled),
		condition(v1alpha1.ConditionMeshEnrolled, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotEnrolled),
	}
	tried := map[string]int{}
	for _, accepted := range acceptances {
		for _, programmed := range programs {
			for _, directHTTPS := range directs {
				for _, enrolled := range enrolments {
					tryEverywhere(t, conditions(accepted, programmed, directHTTPS, enrolled), tried)
				}
			}
		}
	}
	t.Log(tried)
	if len(tried) != 4 {
		t.Errorf("some health was never seen: %v", tried)
	}
}

// tryEverywhere gives conditions to routes whose specs the operator has never seen, has seen before an edit, and has seen, and to those on their way out.
func tryEverywhere(t *testing.T, conditions []metav1.Condition, tried map[string]int) {
	t.Helper()
	for observed := range int64(3) { // never, the one before, this one
		for _, deletion := range []*metav1.Time{nil, {Time: metav1.Unix(1, 0).Time}} {
			tried[agrees(t, plain(t, &v1alpha1.ExternalRoute{
				ObjectMeta: metav1.ObjectMeta{Name: "web", Generation: 2, DeletionTimestamp: deletion},
				Status:     v1alpha1.ExternalRouteStatus{ObservedGeneration: observed, Conditions: conditions},
			}))]++
		}
	}
}

// agrees compares Argo CD's word with kstatus's, which knows no suspension.
func agrees(t *testing.T, object *unstructured.Unstructured) string {
	t.Helper()
	got, message, err := Health(object)
	if err != nil {
		t.Fatal(err)
	}
	if message == "" {
		t.Errorf("%s without a message: %v", got, object)
	}
	result, err := status.Compute(object)
	if err != nil {
		t.Fatal(err)
	}
	want := map[status.Status][]string{
		status.CurrentStatus:     {Healthy, Suspended},
		status.InProgressStatus:  {Progressing, Suspended},
		status.FailedStatus:      {Degraded},
		status.TerminatingStatus: {Progressing},
	}
	if !slices.Contains(want[result.Status], got) {
		t.Errorf("kstatus says %s, Argo CD %s: %v", result.Status, got, object)
	}
	if got == Suspended && reasonOfReady(t, object) != v1alpha1.ReasonSuspended {
		t.Errorf("Argo CD says Suspended, and Ready does not: %v", object)
	}
	return got
}

func reasonOfReady(t *testing.T, object *unstructured.Unstructured) string {
	t.Helper()
	var route v1alpha1.ExternalRoute
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &route); err != nil {
		t.Fatal(err)
	}
	return meta.FindStatusCondition(route.Status.Conditions, v1alpha1.ConditionReady).Reason
}

// conditions is the contract: Ready is computed from Accepted and Programmed, and Stalled asks for a person.
func conditions(accepted, programmed, directHTTPS, enrolled *metav1.Condition) []metav1.Condition {
	all := []metav1.Condition{*accepted}
	ready := *accepted
	if directHTTPS != nil {
		all = append(all, *directHTTPS)
	}
	if programmed != nil {
		all = append(all, *programmed)
		if accepted.Status == metav1.ConditionTrue {
			ready = *programmed
		} else {
			ready.Status = metav1.ConditionFalse
		}
	}
	ready.Type = v1alpha1.ConditionReady
	all = append(all, ready)
	switch ready.Reason {
	case v1alpha1.ReasonInvalid, v1alpha1.ReasonHostConflict, v1alpha1.ReasonDestinationConflict, v1alpha1.ReasonNameConflict,
		v1alpha1.ReasonNotAllowedByPolicy, v1alpha1.ReasonServiceNotUsable:
		stalled := ready
		stalled.Type, stalled.Status = v1alpha1.ConditionStalled, metav1.ConditionTrue
		all = append(all, stalled)
	}
	if enrolled != nil {
		all = append(all, *enrolled)
	}
	return all
}

func condition(kind string, value metav1.ConditionStatus, reason string) *metav1.Condition {
	return &metav1.Condition{Type: kind, Status: value, Reason: reason, Message: reason + ", in a sentence.", ObservedGeneration: 1}
}

func plain(t *testing.T, route *v1alpha1.ExternalRoute) *unstructured.Unstructured {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(route)
	if err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: content}
}

func manifests(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(customizations.Customizations, folder+"testdata/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d manifests, %v", len(names), err)
	}
	return names
}

// manifest reads numbers as Argo CD and kstatus get them from an API server.
func manifest(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return object
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := customizations.Customizations.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// declared are the reasons of the API.
func declared(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../api/v1alpha1/conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		reasons = append(reasons, reason)
		return true
	})
	return reasons
}
