// Package admission judges an ExternalRoute or ExternalRoutePolicy as the API server would on creation, without a cluster: it fills in the schema's
// defaults and applies the CRD's schema and CEL rules. It calls the API server's own code, so there is nothing here that could drift from it. It must
// never import the translation or the controller.
package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/config/crd"
)

// Admission judges objects by one CustomResourceDefinition.
type Admission struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

// New compiles the CRD of ExternalRoute that this module ships.
func New() (*Admission, error) { return compile(crd.ExternalRoutes) }

// NewPolicies compiles the CRD of ExternalRoutePolicy that this module ships.
func NewPolicies() (*Admission, error) { return compile(crd.ExternalRoutePolicies) }

func compile(manifest []byte) (*Admission, error) {
	definition, err := read(manifest)
	if err != nil {
		return nil, err
	}
	openAPI := definition.Spec.Validation
	if openAPI == nil { // the conversion hoists a schema that all versions share, and there is one version
		openAPI = definition.Spec.Versions[0].Schema
	}
	structural, err := schema.NewStructural(openAPI.OpenAPIV3Schema)
	if err != nil {
		return nil, fmt.Errorf("read the CRD's schema: %w", err)
	}
	validator, _, err := validation.NewSchemaValidator(openAPI.OpenAPIV3Schema)
	if err != nil {
		return nil, fmt.Errorf("compile the CRD's schema: %w", err)
	}
	return &Admission{
		structural: structural,
		schema:     validator,
		rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}, nil
}

// Definition reads the CRD of ExternalRoute that this module ships.
func Definition() (*apiextensions.CustomResourceDefinition, error) { return read(crd.ExternalRoutes) }

func read(manifest []byte) (*apiextensions.CustomResourceDefinition, error) {
	var versioned apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(manifest, &versioned); err != nil {
		return nil, fmt.Errorf("parse the CRD: %w", err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&versioned)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&versioned.Spec)
	var definition apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&versioned, &definition, nil); err != nil {
		return nil, fmt.Errorf("convert the CRD: %w", err)
	}
	return &definition, nil
}

// Admit returns the route that a cluster would store for the manifest, defaults filled in, or what the API server would refuse it for. Unknown
// fields are refused, as kubectl does.
func (a *Admission) Admit(ctx context.Context, manifest *unstructured.Unstructured) (*v1alpha1.ExternalRoute, field.ErrorList) {
	return admit[v1alpha1.ExternalRoute](ctx, a, manifest)
}

// AdmitPolicy does the same for a policy.
func (a *Admission) AdmitPolicy(ctx context.Context, manifest *unstructured.Unstructured) (*v1alpha1.ExternalRoutePolicy, field.ErrorList) {
	return admit[v1alpha1.ExternalRoutePolicy](ctx, a, manifest)
}

func admit[T any](ctx context.Context, a *Admission, manifest *unstructured.Unstructured) (*T, field.ErrorList) {
	object, err := asSent(manifest)
	if err != nil {
		return nil, field.ErrorList{field.InternalError(nil, err)}
	}
	delete(object, "status") // written by the operator alone
	var problems field.ErrorList

	unknown := pruning.PruneWithOptions(object, a.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, name := range slices.Sorted(slices.Values(unknown)) {
		problems = append(problems, field.Invalid(field.NewPath(name), field.OmitValueType{}, "unknown field"))
	}
	if len(problems) > 0 { // the API server does not get further with such a manifest
		return nil, problems
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, a.structural)
	defaulting.Default(object, a.structural)

	problems = checkName(manifest.GetName())
	for _, message := range apivalidation.ValidateNamespaceName(manifest.GetNamespace(), false) {
		if manifest.GetNamespace() != "" {
			problems = append(problems, field.Invalid(field.NewPath("metadata", "namespace"), manifest.GetNamespace(), message))
		}
	}
	problems = append(problems, validation.ValidateCustomResource(nil, object, a.schema)...)
	problems = append(problems, listtype.ValidateListSetsAndMaps(nil, a.structural, object)...)
	if !slices.ContainsFunc(problems, blocksRules) {
		broken, _ := a.rules.Validate(ctx, nil, a.structural, object, nil, celconfig.RuntimeCELCostBudget)
		problems = append(problems, broken...)
	}
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) }) // the API server's own order is random
		return nil, problems
	}
	return decode[T](object)
}

// asSent is a copy of the manifest as it goes over the wire: whole numbers are integers, whatever they were decoded into.
func asSent(manifest *unstructured.Unstructured) (map[string]any, error) {
	raw, err := json.Marshal(manifest.Object)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	err = utiljson.Unmarshal(raw, &object)
	return object, err
}

func checkName(name string) field.ErrorList {
	path := field.NewPath("metadata", "name")
	if name == "" {
		return field.ErrorList{field.Required(path, "name is required")}
	}
	var problems field.ErrorList
	for _, message := range apivalidation.NameIsDNSSubdomain(name, false) {
		problems = append(problems, field.Invalid(path, name, message))
	}
	return problems
}

// blocksRules says whether the API server skips the CEL rules because of a problem: its list is apiextensions-apiserver's hasBlockingErr.
func blocksRules(problem *field.Error) bool {
	return slices.Contains([]field.ErrorType{
		field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeNotSupported, field.ErrorTypeTypeInvalid,
	}, problem.Type)
}

func decode[T any](object map[string]any) (*T, field.ErrorList) {
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, field.ErrorList{field.InternalError(nil, err)}
	}
	decoded := new(T)
	if err := json.Unmarshal(raw, decoded); err != nil {
		return nil, field.ErrorList{field.InternalError(nil, err)}
	}
	return decoded, nil
}
