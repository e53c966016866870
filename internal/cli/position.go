package cli

import (
	"bytes"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// position is where an object is written.
type position struct {
	source string
	// node is the object as it is written, nil if the source has no lines, such as a kustomization.
	node *yaml.Node
}

// positions are the objects of each source that were not taken yet, in the order of the source.
type positions map[string][]*yaml.Node

func (p positions) indexed(source string) bool { _, found := p[source]; return found }

// index finds the objects in a source. What is no YAML has none: the reader of the objects reports it.
func (p positions) index(source string, text []byte) {
	p[source] = nil
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document yaml.Node
		if decoder.Decode(&document) != nil {
			return
		}
		if len(document.Content) == 0 {
			continue
		}
		root := document.Content[0]
		if _, items := entry(root, "items"); items != nil && items.Kind == yaml.SequenceNode {
			p[source] = append(p[source], items.Content...)
			continue
		}
		p[source] = append(p[source], root)
	}
}

// take returns the position of an object, once.
func (p positions) take(source string, object *unstructured.Unstructured) position {
	for i, node := range p[source] {
		_, version := entry(node, "apiVersion")
		_, kind := entry(node, "kind")
		_, metadata := entry(node, "metadata")
		_, name := entry(metadata, "name")
		if text(version) == object.GetAPIVersion() && text(kind) == object.GetKind() && text(name) == object.GetName() {
			p[source] = append(p[source][:i:i], p[source][i+1:]...)
			return position{source: source, node: node}
		}
	}
	return position{source: source}
}

func text(node *yaml.Node) string {
	if node == nil {
		return ""
	}
	return node.Value
}

// step is one step of a field path: .name, [0] or [key].
var step = regexp.MustCompile(`\[([^\]]*)\]|[^.\[\]]+`)

// line is the line of a field, or of the nearest field around it that is written. It is 0 if the source has no lines.
func (p position) line(path string) int {
	if p.node == nil {
		return 0
	}
	node, line := p.node, p.node.Line
	for _, s := range step.FindAllStringSubmatch(path, -1) {
		name := s[0]
		if name[0] == '[' {
			name = s[1]
		}
		key, value := entry(node, name)
		if value == nil {
			return line
		}
		node, line = value, key.Line
	}
	return line
}

// entry finds an entry of a map or a list. The key of an entry of a list is the entry itself.
func entry(node *yaml.Node, name string) (key, value *yaml.Node) {
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case node == nil:
	case node.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == name {
				return node.Content[i], node.Content[i+1]
			}
		}
	case node.Kind == yaml.SequenceNode:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	}
	return nil, nil
}

// duplicate is a key that a map has twice.
type duplicate struct {
	key  string
	line int
}

// duplicates are the keys that are written twice in one map, which the API server refuses.
func duplicates(node *yaml.Node) (found []duplicate) {
	if node == nil {
		return nil
	}
	seen := map[string]bool{}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			if seen[child.Value] {
				found = append(found, duplicate{key: child.Value, line: child.Line})
			}
			seen[child.Value] = true
		}
		found = append(found, duplicates(child)...)
	}
	return found
}
