package random

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/utils/ptr"
)

// node is a part of the CRD's schema, with the rules that stand at that very place. A value is drawn from the inside out, and what the rules of a place
// refuse is redrawn or left out there: so most of what is drawn is admitted, and no rule is known twice.
type node struct {
	schema     *schema.Structural
	rules      *cel.Validator
	properties map[string]*node
	items      *node
	values     *node // of a map

	// admitted remembers what the rules said of a text: many are drawn again and again.
	admitted map[string]bool
}

func newNode(s *schema.Structural) *node {
	n := &node{schema: s, rules: cel.NewValidator(ownRules(s), false, celconfig.PerCallLimit), admitted: map[string]bool{}}
	if len(s.Properties) > 0 {
		n.properties = map[string]*node{}
		for name := range s.Properties {
			child := s.Properties[name]
			n.properties[name] = newNode(&child)
		}
	}
	if s.Items != nil {
		n.items = newNode(s.Items)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		n.values = newNode(s.AdditionalProperties.Structural)
	}
	return n
}

// ownRules is the schema without the rules of what it holds.
func ownRules(s *schema.Structural) *schema.Structural {
	own := s.DeepCopy()
	clearRules(own)
	own.XValidations = s.XValidations
	return own
}

func clearRules(s *schema.Structural) {
	s.XValidations = nil
	for name, child := range s.Properties {
		clearRules(&child)
		s.Properties[name] = child
	}
	if s.Items != nil {
		clearRules(s.Items)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		clearRules(s.AdditionalProperties.Structural)
	}
}

// holds says whether the bounds and rules of this very place admit a value, and where the first problem is, if a rule says that.
func (n *node) holds(value any) (admitted bool, property string) {
	bounds := ptr.Deref(n.schema.ValueValidation, schema.ValueValidation{})
	switch typed := value.(type) {
	case map[string]any:
		if int64(len(typed)) < ptr.Deref(bounds.MinProperties, 0) {
			return false, ""
		}
	case []any:
		if int64(len(typed)) < ptr.Deref(bounds.MinItems, 0) {
			return false, ""
		}
	case string:
		return n.holdsText(typed, int(ptr.Deref(bounds.MinLength, 0))), ""
	}
	problems, _ := n.rules.Validate(context.Background(), nil, nil, value, nil, celconfig.RuntimeCELCostBudget)
	if len(problems) == 0 {
		return true, ""
	}
	property, _, _ = strings.Cut(strings.TrimPrefix(problems[0].Field, "."), ".")
	return false, property
}

func (n *node) holdsText(text string, least int) bool {
	admitted, known := n.admitted[text]
	if known {
		return admitted
	}
	problems, _ := n.rules.Validate(context.Background(), nil, nil, text, nil, celconfig.RuntimeCELCostBudget)
	admitted = len(problems) == 0 && utf8.RuneCountInString(text) >= least
	if len(text) < 64 && len(n.admitted) < 1<<12 {
		n.admitted[text] = admitted
	}
	return admitted
}

// unique says whether no two items are one to the API server.
func (n *node) unique(items []any) bool {
	seen := map[string]bool{}
	for _, item := range items {
		key := item
		switch ptr.Deref(n.schema.XListType, "atomic") {
		case "atomic":
			return true
		case "map":
			keys := map[string]any{}
			for _, name := range n.schema.XListMapKeys {
				keys[name] = item.(map[string]any)[name]
			}
			key = keys
		}
		text, err := json.Marshal(key)
		if err != nil {
			panic(err) // everything drawn is plain JSON
		}
		if seen[string(text)] {
			return false
		}
		seen[string(text)] = true
	}
	return true
}

// draw draws a value for a property, or says that it found none that the schema admits.
func (n *node) draw(d *drawing, property string) (any, bool) {
	switch n.schema.Type {
	case "object":
		if n.values != nil {
			return n.drawMap(d, property)
		}
		return n.drawObject(d)
	case "array":
		return n.drawList(d, property)
	case "string":
		return n.drawString(d, property)
	case "integer":
		return n.drawInteger(d, property)
	case "boolean":
		return d.chance(8), true
	}
	panic(fmt.Sprintf("no way to draw a value of type %q for %s", n.schema.Type, property))
}

func (n *node) drawObject(d *drawing) (any, bool) {
	d.depth++
	defer func() { d.depth-- }()
	object := map[string]any{}
	names := slices.Sorted(maps.Keys(n.properties))
	var required, optional []string
	for _, name := range names { // in their order: hosts may repeat those of the destinations, and rules their names
		if n.schema.ValueValidation != nil && slices.Contains(n.schema.ValueValidation.Required, name) {
			required = append(required, name)
		} else {
			optional = append(optional, name)
			if !d.chance(d.wanted(name, n.properties[name])) {
				continue
			}
		}
		if value, ok := n.properties[name].draw(d, name); ok {
			object[name] = value
		}
	}
	for range 8 {
		defaulting.Default(object, n.schema)
		admitted, culprit := n.holds(object)
		missing := slices.IndexFunc(required, func(name string) bool { return object[name] == nil })
		switch {
		case missing >= 0:
			culprit = required[missing]
		case admitted:
			return object, true
		}
		n.change(d, object, culprit, required, optional)
	}
	return nil, false
}

// wanted is in how many cases of sixteen something is there that may be left out: more often where it holds much, and where its parents are rare.
func (d *drawing) wanted(property string, n *node) int {
	switch {
	case d.depth == 1 && property == "destinations":
		return 14
	case d.depth == 1 && d.passesThrough() && property != "exportTo" && property != "port": // most else is refused then
		return 2
	}
	if n.items != nil && n.items.properties != nil && d.depth == 1 {
		return 10
	}
	return d.plenty + 2*(d.depth-1)
}

// passesThrough says whether the route has no destinations, once those would have been drawn.
func (d *drawing) passesThrough() bool { return len(d.seen["url"]) == 0 }

// change makes an object that is refused into another one: something goes that may be missing, or comes anew.
func (n *node) change(d *drawing, object map[string]any, culprit string, required, optional []string) {
	if n.properties[culprit] == nil {
		there := slices.DeleteFunc(slices.Clone(optional), func(name string) bool { return object[name] == nil })
		if len(there) == 0 {
			there = slices.Concat(required, optional)
		}
		if len(there) == 0 {
			return
		}
		culprit = there[d.below(len(there))]
	}
	if object[culprit] != nil && slices.Contains(optional, culprit) && d.chance(6) {
		delete(object, culprit)
		return
	}
	if value, ok := n.properties[culprit].draw(d, culprit); ok {
		object[culprit] = value
	}
}

func (n *node) drawList(d *drawing, property string) (any, bool) {
	bounds := n.schema.ValueValidation
	list, least := []any{}, int(ptr.Deref(bounds.MinItems, 0))
	if property == "destinations" && d.depth == 1 { // none are left out, and rarely empty
		least = max(least, 1-d.below(16)/15)
	}
	for range d.size(least, int(ptr.Deref(bounds.MaxItems, 4))) {
		if value, ok := n.items.draw(d, property); ok {
			if n.unique(append(slices.Clone(list), value)) {
				list = append(list, value)
			}
		}
	}
	for {
		if admitted, _ := n.holds(list); admitted {
			return list, true
		}
		if len(list) == 0 {
			return nil, false
		}
		if len(list) > 4 {
			list = list[:len(list)/2]
			continue
		}
		i := d.below(len(list))
		list = slices.Delete(list, i, i+1)
	}
}

func (n *node) drawMap(d *drawing, property string) (any, bool) {
	bounds := n.schema.ValueValidation
	values := map[string]any{}
	for range d.size(int(ptr.Deref(bounds.MinProperties, 0)), int(ptr.Deref(bounds.MaxProperties, 4))) {
		key := d.text(kindOfKeys(property))
		if admitted, _ := n.holds(map[string]any{key: ""}); !admitted {
			continue
		}
		if value, ok := n.values.draw(d, property); ok {
			values[key] = value
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if admitted, _ := n.holds(values); admitted {
			break
		}
		delete(values, key)
	}
	admitted, _ := n.holds(values)
	return values, admitted
}

func (n *node) drawString(d *drawing, property string) (any, bool) {
	bounds := ptr.Deref(n.schema.ValueValidation, schema.ValueValidation{})
	if len(bounds.Enum) > 0 {
		return bounds.Enum[d.below(len(bounds.Enum))].Object, true
	}
	for range 20 {
		text := cut(d.value(property), int(ptr.Deref(bounds.MaxLength, 4096)))
		if admitted, _ := n.holds(text); admitted {
			d.seen[property] = append(d.seen[property], text)
			return text, true
		}
	}
	return nil, false
}

// cut takes as many characters as there may be.
func cut(text string, length int) string {
	if runes := []rune(text); len(runes) > length {
		return string(runes[:length])
	}
	return text
}

func (n *node) drawInteger(d *drawing, property string) (any, bool) {
	bounds := ptr.Deref(n.schema.ValueValidation, schema.ValueValidation{})
	least, most := int(ptr.Deref(bounds.Minimum, -1<<31)), int(ptr.Deref(bounds.Maximum, 1<<31-1))
	for range 20 {
		value := d.number(property, least, most)
		if admitted, _ := n.holds(int64(value)); admitted && value >= least && value <= most {
			return int64(value), true
		}
	}
	return nil, false
}
