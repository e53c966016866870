// Package api_test tries the ExternalRoute API on a real API server. What it refuses on creation, internal/admission must refuse for the same fields
// and in the same words: one table, two judges.
package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/internal/admission"
	"github.com/externalroute/externalroute/test/controlplane"
)

var (
	plane   *controlplane.ControlPlane
	cluster client.Client
	offline *admission.Admission
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if plane, err = controlplane.Start(controlplane.Options{ExternalRoute: true}); err != nil {
		return 1, err
	}
	defer func() {
		if code != 0 {
			fmt.Fprintln(os.Stderr, plane.Logs())
		}
		err = errors.Join(err, plane.Stop())
	}()
	if cluster, err = client.New(plane.Config, client.Options{}); err != nil {
		return 1, err
	}
	if offline, err = admission.New(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// object is a piece of a manifest.
type object = map[string]any

// parse reads a piece of a manifest.
func parse(text string) any {
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		panic(fmt.Sprintf("%v in %s", err, text))
	}
	return value
}

// route is a manifest of the smallest useful route, with the top-level fields of spec replaced.
func route(name string, spec object) *unstructured.Unstructured {
	whole := parse(`{hosts: [webserver], destinations: [{url: "https://example.com"}]}`).(object)
	maps.Copy(whole, spec)
	manifest := &unstructured.Unstructured{}
	raw, err := json.Marshal(object{
		"apiVersion": "networking.externalroute.io/v1alpha1", "kind": "ExternalRoute",
		"metadata": object{"name": name, "namespace": "default"},
		"spec":     whole,
	})
	if err == nil {
		err = manifest.UnmarshalJSON(raw) // also turns int into int64
	}
	if err != nil {
		panic(err)
	}
	return manifest
}

var step = regexp.MustCompile(`[^.\[\]]+`)

// set puts a value at a path such as rules[0].match[0].uri, making what is missing on the way.
func set(into any, path string, value any) any {
	return setSteps(into, step.FindAllString(path, -1), value)
}

func setSteps(into any, steps []string, value any) any {
	if len(steps) == 0 {
		return value
	}
	if index, err := strconv.Atoi(steps[0]); err == nil {
		list, _ := into.([]any)
		for len(list) <= index {
			list = append(list, nil)
		}
		list[index] = setSteps(list[index], steps[1:], value)
		return list
	}
	fields, ok := into.(object)
	if !ok {
		fields = object{}
	}
	fields[steps[0]] = setSteps(fields[steps[0]], steps[1:], value)
	return fields
}

// problems are what a judge has against a manifest: messages by field path.
type problems map[string][]string

func (p problems) add(field, message string) {
	field = mapKey.ReplaceAllString(field, ".$1") // the schema says set.x-key, a rule set[x-key]
	p[field] = append(p[field], message)
}

// fields are the fields that have problems, save those that hold another one of them: rules about a whole may break with its part.
func (p problems) fields() []string {
	all := slices.Sorted(maps.Keys(p))
	return slices.DeleteFunc(slices.Clone(all), func(field string) bool {
		return slices.ContainsFunc(all, func(other string) bool {
			return strings.HasPrefix(other, field+".") || strings.HasPrefix(other, field+"[")
		})
	})
}

var mapKey = regexp.MustCompile(`\[([^\]\d][^\]]*)\]`)

var unknownField = regexp.MustCompile(`unknown field "([^"]+)"`)

// byAPIServer reads the API server's answer.
func byAPIServer(t *testing.T, err error) problems {
	t.Helper()
	found := problems{}
	status := apierrors.APIStatus(nil)
	switch {
	case err == nil:
		return found
	case !errors.As(err, &status):
		t.Fatal(err)
	case apierrors.IsBadRequest(err):
		for _, match := range unknownField.FindAllStringSubmatch(err.Error(), -1) {
			found.add(match[1], "Invalid value: unknown field")
		}
	}
	if details := status.Status().Details; details != nil {
		for _, cause := range details.Causes {
			found.add(cause.Field, cause.Message)
		}
	}
	delete(found, "<nil>") // "some validation rules were not checked", and words about a field that stands there, too
	if len(found) == 0 {
		t.Fatal("the API server's answer names no field: ", err)
	}
	return found
}

// byAdmission reads internal/admission's answer.
func byAdmission(list field.ErrorList) problems {
	found := problems{}
	for _, problem := range list {
		found.add(problem.Field, problem.ErrorBody())
	}
	delete(found, "<nil>")
	return found
}

// judge lets both judges try to create a manifest, requires that they agree, and returns their verdict. Nothing is stored.
func judge(ctx context.Context, t *testing.T, manifest *unstructured.Unstructured) problems {
	t.Helper()
	_, refusals := offline.Admit(ctx, manifest)
	err := cluster.Create(ctx, manifest.DeepCopy(), client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict))
	there, here := byAPIServer(t, err), byAdmission(refusals)
	if diff := cmp.Diff(there.fields(), here.fields()); diff != "" {
		t.Errorf("the API server (-) and internal/admission (+) disagree about %s:\n%s", short(manifest.Object["spec"]), diff)
	}
	return there
}

func encode(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func short(value any) string {
	const enough = 300
	text := encode(value)
	return text[:min(len(text), enough)]
}

// times is the text as often as asked for.
func times(count int, text string) string { return strings.Repeat(text, count) }
