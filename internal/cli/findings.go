package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/externalroute/externalroute/internal/lint"
)

// severity says whether the API server or the operator refuses something, or it is only advice. Its values are those of SARIF and of GitHub's annotations.
type severity string

const (
	severityError   severity = "error"
	severityWarning severity = "warning"
)

// finding is one line of the report of lint. Line is 0 if the source has no lines, and Kind is empty if the finding is about the whole file.
type finding struct {
	Severity  severity `json:"severity"`
	Rule      string   `json:"rule"`
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name"`
	File      string   `json:"file"`
	Line      int      `json:"line,omitempty"`
	Field     string   `json:"field"`
	Message   string   `json:"message"`
}

// formats print findings.
var formats = map[string]func([]finding, io.Writer) error{"text": printText, "json": printJSON, "sarif": printSARIF, "github": printGitHub}

// text is what is wrong, with the object and the field.
func (f finding) text() string {
	if f.Kind == "" {
		return f.Message
	}
	name := f.Name
	if f.Namespace != "" {
		name = f.Namespace + "/" + f.Name
	}
	return fmt.Sprintf("%s %s: %s: %s", f.Kind, name, f.Field, f.Message)
}

// inOrder sorts findings by files and lines.
func inOrder(findings []finding) []finding {
	slices.SortStableFunc(findings, func(a, b finding) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return findings
}

func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

func printText(findings []finding, out io.Writer) error {
	for _, f := range findings {
		if _, err := fmt.Fprintf(out, "%s: %s: %s [%s]\n", place(f.File, f.Line), f.Severity, f.text(), f.Rule); err != nil {
			return err
		}
	}
	return nil
}

func printJSON(findings []finding, out io.Writer) error {
	return encode(append([]finding{}, findings...), out) // no findings are an empty list
}

func encode(value any, out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printGitHub prints workflow commands, which GitHub shows as annotations of a pull request.
func printGitHub(findings []finding, out io.Writer) error {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, f := range findings {
		_, err := fmt.Fprintf(out, "::%s file=%s,line=%d,title=%s::%s\n", f.Severity, property.Replace(f.File), cmp.Or(f.Line, 1), property.Replace(f.Rule),
			data.Replace(f.text()))
		if err != nil {
			return err
		}
	}
	return nil
}

// The part of SARIF 2.1.0 that code scanning reads.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name  string      `json:"name"`
		Rules []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     severity        `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
)

func printSARIF(findings []finding, out io.Writer) error {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver.Name = "kubectl-externalroute"
	for _, rule := range lint.Rules {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{rule.Name, sarifText{rule.About}})
	}
	for _, f := range findings {
		run.Results = append(run.Results, sarifResult{
			RuleID: f.Rule, Level: f.Severity, Message: sarifText{f.text()},
			Locations: []sarifLocation{{sarifPhysical{sarifArtifact{uriOf(f.File)}, sarifRegion{cmp.Or(f.Line, 1)}}}},
		})
	}
	return encode(sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}, out)
}

// uriOf is the URI of a file. A file that is read over HTTP has one already.
func uriOf(file string) string {
	if strings.Contains(file, "://") {
		return file
	}
	return (&url.URL{Path: filepath.ToSlash(file)}).String()
}
