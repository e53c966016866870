package api_test

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/externalroute/externalroute/config/crd"
)

// rule is a rule of the API: each of the good values, put into a good route, is admitted; each of the bad ones is refused.
type rule struct {
	with string // YAML: other top-level fields of spec that the route has
	at   string // where below spec the values go
	good []any
	bad  []any
	path string // below spec: the field that a refusal names, where it is another one
	says string // what a refusal says about it
}

// Every rule by its sentence. A sentence that begins with a path is about that field.
var everyRule = []map[string]rule{
	hostRules, passThroughRules, tcpRules, urlRules, destinationRules, endpointRules, tlsRules, exportRules, selectorRules, gatewayRules, waypointRules,
	ruleRules,
	matchRules,
	rewriteRules, headerRules, responseRules, retryRules(), durationRules(), boundRules(), unknownFields,
}

func TestCreate(t *testing.T) {
	var refusals []problems
	for _, table := range everyRule {
		for _, sentence := range slices.Sorted(maps.Keys(table)) {
			t.Run(sentence, func(t *testing.T) { refusals = append(refusals, try(t, table[sentence])...) })
		}
	}
	t.Run("everything that the schema demands was refused to something", func(t *testing.T) {
		for _, d := range demands("spec", schema(t)) {
			if !d.met(refusals) {
				t.Errorf("%+v", d)
			}
		}
	})
}

func try(t *testing.T, r rule) (refusals []problems) {
	t.Helper()
	path := "spec." + cmp.Or(r.path, r.at)
	for _, value := range r.good {
		if found := judge(t.Context(), t, route("web", r.spec(value))); len(found) > 0 {
			t.Errorf("refused: %s\n%v", short(value), found)
		}
	}
	for _, value := range r.bad {
		found := judge(t.Context(), t, route("web", r.spec(value)))
		switch fields := found.fields(); {
		case len(found) == 0:
			t.Errorf("admitted: %s", short(value))
		case !slices.Equal(fields, []string{path}):
			t.Errorf("refused for %v, not for %s: %s\n%v", fields, path, short(value), found)
		case !strings.Contains(strings.Join(found[path], "\n"), r.says):
			t.Errorf("refused, but without the words %q: %s\n%v", r.says, short(value), found)
		}
		refusals = append(refusals, found)
	}
	return refusals
}

func (r rule) spec(value any) object {
	spec := parse(`{hosts: [webserver], destinations: [{url: "https://example.com"}]}`).(object)
	if r.with != "" {
		maps.Copy(spec, parse(r.with).(object))
	}
	return set(spec, r.at, value).(object)
}

// A demand of the schema: a rule with a message of its own, or a keyword, of which said has the API server's words.
type demand struct{ path, keyword, message string }

var said = map[string]*regexp.Regexp{
	"minLength":     regexp.MustCompile(`should be at least \d+ chars long`),
	"maxLength":     regexp.MustCompile(`may not be more than \d+ bytes`),
	"minimum":       regexp.MustCompile(`should be greater than or equal to`),
	"maximum":       regexp.MustCompile(`should be less than or equal to`),
	"minItems":      regexp.MustCompile(`should have at least \d+ items`),
	"maxItems":      regexp.MustCompile(`must have at most \d+ items?`),
	"minProperties": regexp.MustCompile(`should have at least \d+ properties`),
	"maxProperties": regexp.MustCompile(`must have at most \d+ items?`),
	"enum":          regexp.MustCompile(`Unsupported value`),
	"required":      regexp.MustCompile(`Required value`),
	"unique":        regexp.MustCompile(`Duplicate value`),
}

var (
	index = regexp.MustCompile(`\[\d+\]`)
	entry = regexp.MustCompile(`\.x-key\d*`)
)

// met says whether one of the refusals was about the demand.
func (d demand) met(refusals []problems) bool {
	return slices.ContainsFunc(refusals, func(found problems) bool {
		for field, messages := range found {
			if entry.ReplaceAllString(index.ReplaceAllString(field, "[]"), ".*") != d.path {
				continue
			}
			if slices.ContainsFunc(messages, func(message string) bool {
				return d.message != "" && strings.HasSuffix(message, d.message) || d.message == "" && said[d.keyword].MatchString(message)
			}) {
				return true
			}
		}
		return false
	})
}

// demands lists what a schema demands.
func demands(path string, s apiextensionsv1.JSONSchemaProps) []demand {
	var all []demand
	for keyword, is := range map[string]bool{
		"minLength": s.MinLength != nil, "maxLength": s.MaxLength != nil, "minimum": s.Minimum != nil, "maximum": s.Maximum != nil,
		"enum":     len(s.Enum) > 0,
		"minItems": ptr.Deref(s.MinItems, 0) > 0, "maxItems": s.MaxItems != nil, "minProperties": ptr.Deref(s.MinProperties, 0) > 0,
		"maxProperties": s.MaxProperties != nil,
	} {
		if is {
			all = append(all, demand{path: path, keyword: keyword})
		}
	}
	for _, r := range s.XValidations {
		all = append(all, demand{path: path + r.FieldPath, message: r.Message})
	}
	for _, name := range s.Required {
		if s.Properties[name].Default == nil {
			all = append(all, demand{path: path + "." + name, keyword: "required"})
		}
	}
	if s.XListType != nil && *s.XListType != "atomic" {
		all = append(all, demand{path: path + "[]", keyword: "unique"})
	}
	for below, part := range parts(s) {
		all = append(all, demands(path+below, part)...)
	}
	return all
}

// parts are the schemas of what stands below.
func parts(s apiextensionsv1.JSONSchemaProps) map[string]apiextensionsv1.JSONSchemaProps {
	below := map[string]apiextensionsv1.JSONSchemaProps{}
	for name, property := range s.Properties {
		below["."+name] = property
	}
	if s.Items != nil {
		below["[]"] = *s.Items.Schema
	}
	if s.AdditionalProperties != nil {
		below[".*"] = *s.AdditionalProperties.Schema
	}
	return below
}

func schema(t *testing.T) apiextensionsv1.JSONSchemaProps {
	t.Helper()
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(crd.ExternalRoutes, &definition); err != nil {
		t.Fatal(err)
	}
	return definition.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
}

// The largest admissible route must stay far below etcd's limit, so nothing may be without bounds.
func TestEverythingIsBounded(t *testing.T) {
	var look func(path string, s apiextensionsv1.JSONSchemaProps)
	look = func(path string, s apiextensionsv1.JSONSchemaProps) {
		switch {
		case s.Type == "string" && s.MaxLength == nil && len(s.Enum) == 0, s.Type == "array" && s.MaxItems == nil,
			s.AdditionalProperties != nil && s.MaxProperties == nil:
			t.Errorf("%s may be of any size", path)
		case s.Type == "integer" && (s.Minimum == nil || s.Maximum == nil):
			t.Errorf("%s may be any number", path)
		case s.Type == "", s.XPreserveUnknownFields != nil:
			t.Errorf("%s may be anything", path)
		}
		for below, part := range parts(s) {
			look(path+below, part)
		}
	}
	look("spec", schema(t))
}
