package main

import (
	"net/url"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
)

// plugin is krew's kind Plugin. The module of krew is not needed for these few fields.
type plugin struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Spec            struct {
		Version          string     `json:"version"`
		Homepage         string     `json:"homepage"`
		ShortDescription string     `json:"shortDescription"`
		Description      string     `json:"description"`
		Caveats          string     `json:"caveats"`
		Platforms        []platform `json:"platforms"`
	} `json:"spec"`
}

// platform is an archive, and where it runs.
type platform struct {
	URI      string                `json:"uri"`
	Sha256   string                `json:"sha256"`
	Bin      string                `json:"bin"`
	Selector *metav1.LabelSelector `json:"selector"`
	Files    []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"files"`
}

// What krew accepts (krew: internal/index/validation, cmd/validate-krew-manifest), and what its naming and developer guides ask for.
const (
	apiVersion       = "krew.googlecontainertools.github.com/v1alpha2"
	shortDescription = 50
	lineLength       = 80
)

var (
	safeName = regexp.MustCompile(`^[a-z0-9-]+$`)
	digest   = regexp.MustCompile(`^[a-f0-9]{64}$`)
)

// systems are those on which krew installs plugins.
var systems = []labels.Set{
	{"os": "linux", "arch": "386"},
	{"os": "linux", "arch": "amd64"},
	{"os": "linux", "arch": "arm"},
	{"os": "linux", "arch": "arm64"},
	{"os": "darwin", "arch": "amd64"},
	{"os": "darwin", "arch": "arm64"},
	{"os": "windows", "arch": "386"},
	{"os": "windows", "arch": "amd64"},
	{"os": "windows", "arch": "arm64"},
}

// validate judges a manifest whose file has that name.
func validate(name string, p *plugin) (problems field.ErrorList) {
	spec := field.NewPath("spec")
	equal := func(path *field.Path, got, want string) {
		if got != want {
			problems = append(problems, field.NotSupported(path, got, []string{want}))
		}
	}
	equal(field.NewPath("apiVersion"), p.APIVersion, apiVersion)
	equal(field.NewPath("kind"), p.Kind, "Plugin")
	equal(field.NewPath("metadata", "name"), p.Metadata.Name, name)
	if !safeName.MatchString(name) || strings.HasPrefix(name, "kube") {
		problems = append(problems, field.Invalid(field.NewPath("metadata", "name"), name,
			"must be lower-case letters, digits and hyphens, and not begin with kube"))
	}
	if _, err := version.ParseSemantic(p.Spec.Version); err != nil || !strings.HasPrefix(p.Spec.Version, "v") {
		problems = append(problems, field.Invalid(spec.Child("version"), p.Spec.Version, "must be a semantic version that begins with v"))
	}
	problems = append(problems, validateTexts(spec, p)...)
	if len(p.Spec.Platforms) == 0 {
		problems = append(problems, field.Required(spec.Child("platforms"), ""))
	}
	taken := map[string]bool{}
	for i, one := range p.Spec.Platforms {
		problems = append(problems, one.validate(spec.Child("platforms").Index(i), taken)...)
	}
	return problems
}

func validateTexts(spec *field.Path, p *plugin) (problems field.ErrorList) {
	for _, required := range []struct{ name, text string }{
		{"homepage", p.Spec.Homepage},
		{"shortDescription", p.Spec.ShortDescription},
		{"description", p.Spec.Description},
	} {
		if required.text == "" {
			problems = append(problems, field.Required(spec.Child(required.name), ""))
		}
	}
	short := p.Spec.ShortDescription
	if len(short) > shortDescription {
		problems = append(problems, field.TooLong(spec.Child("shortDescription"), short, shortDescription))
	}
	if strings.ContainsAny(short, "\r\n") || strings.HasSuffix(short, ".") {
		problems = append(problems, field.Invalid(spec.Child("shortDescription"), short, "must be one line without a full stop"))
	}
	for _, wrapped := range []struct{ name, text string }{{"description", p.Spec.Description}, {"caveats", p.Spec.Caveats}} {
		for line := range strings.Lines(wrapped.text) {
			if line = strings.TrimSpace(line); len(line) > lineLength && strings.Contains(line, " ") {
				problems = append(problems, field.TooLong(spec.Child(wrapped.name), line, lineLength))
			}
		}
	}
	return problems
}

// validate judges a platform, and notes the systems that it takes.
func (p platform) validate(path *field.Path, taken map[string]bool) (problems field.ErrorList) {
	if address, err := url.Parse(p.URI); err != nil || address.Scheme != "https" || address.Host == "" {
		problems = append(problems, field.Invalid(path.Child("uri"), p.URI, "must be an https URL"))
	}
	if !digest.MatchString(p.Sha256) {
		problems = append(problems, field.Invalid(path.Child("sha256"), p.Sha256, "must be 64 lower-case hexadecimal digits"))
	}
	if p.Bin == "" {
		problems = append(problems, field.Required(path.Child("bin"), ""))
	}
	for i, f := range p.Files {
		if f.From == "" || f.To == "" {
			problems = append(problems, field.Required(path.Child("files").Index(i), "needs from and to"))
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(p.Selector)
	if err != nil || selector.Empty() {
		return append(problems, field.Invalid(path.Child("selector"), p.Selector, "must select by os and arch"))
	}
	matches := 0
	for _, system := range systems {
		if !selector.Matches(system) {
			continue
		}
		matches++
		if taken[system.String()] {
			problems = append(problems, field.Duplicate(path.Child("selector"), system.String()))
		}
		taken[system.String()] = true
	}
	if matches == 0 {
		problems = append(problems, field.Invalid(path.Child("selector"), selector.String(), "matches no system on which krew installs plugins"))
	}
	return problems
}
