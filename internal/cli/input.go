package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/externalroute/externalroute/api/v1alpha1"
	"github.com/externalroute/externalroute/internal/translate"
)

var (
	routeKind     = v1alpha1.SchemeGroupVersion.WithKind("ExternalRoute").GroupKind()
	policyKind    = v1alpha1.SchemeGroupVersion.WithKind("ExternalRoutePolicy").GroupKind()
	namespaceKind = corev1.SchemeGroupVersion.WithKind("Namespace").GroupKind()
)

// stdin is the source of what standard input holds.
const stdin = "stdin"

// input is what the commands read, with routes and with facts about the cluster: files, folders, kustomizations and standard input, or a cluster without any.
type input struct {
	environment
	files     resource.FilenameOptions
	namespace string
	// named reports that -n names the namespace.
	named bool
	// reads are the namespaces that are read if the user may not list objects of all. Without any, it is that of -n.
	reads []string
	// everywhere is -A: the command is about the routes of all namespaces.
	everywhere    bool
	clusterDomain string
	// labels is -l: the command is about routes with these labels. Others still count as facts.
	labels   string
	selector labels.Selector
	// gaps are what could not be read of the cluster.
	gaps []gap
}

// manifest is an object of the input, and where it is.
type manifest struct {
	*unstructured.Unstructured
	position
}

// addFlags adds the flags of a command that is about routes of files or of a cluster.
func (i *input) addFlags(command *cobra.Command) {
	i.addFiles(command.Flags())
	i.addClusterFlags(command)
}

// addClusterFlags adds the flags of a command that is about routes of a cluster only.
func (i *input) addClusterFlags(command *cobra.Command) {
	command.Flags().BoolVarP(&i.everywhere, "all-namespaces", "A", false, "the routes of all namespaces of the cluster")
	command.Flags().StringVarP(&i.labels, "selector", "l", "", "only routes with these labels, such as team=shop")
	i.addFacts(command)
}

// addSources adds the flags of a command that reads files or a cluster, and is not about the routes of a namespace.
func (i *input) addSources(command *cobra.Command) {
	i.addFiles(command.Flags())
	i.addFacts(command)
}

// addFacts adds what no files and no cluster say.
func (i *input) addFacts(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&i.clusterDomain, "cluster-domain", translate.DefaultClusterDomain, "the cluster's DNS domain")
	command.PreRunE = func(*cobra.Command, []string) error { return i.prepare() }
}

// prepare checks and completes the flags.
func (i *input) prepare() error {
	switch {
	case i.files.Kustomize != "" && (len(i.files.Filenames) > 0 || i.files.Recursive):
		return usage{errors.New("-k excludes -f and -R")}
	case i.files.Recursive && !i.local():
		return usage{errors.New("-R needs -f")}
	case i.everywhere && i.local():
		return usage{errors.New("-A is for a cluster, and -f and -k are for files: remove one of them")}
	}
	if err := checkClusterDomain(i.clusterDomain); err != nil {
		return err
	}
	var err error
	if i.selector, err = readSelector(i.labels); err != nil {
		return err
	}
	return i.resolve()
}

// readSelector reads --selector.
func readSelector(text string) (labels.Selector, error) {
	selector, err := labels.Parse(text)
	if err != nil {
		return nil, usage{fmt.Errorf("--selector %q: %w", text, err)}
	}
	return selector, nil
}

// checkClusterDomain judges --cluster-domain as the operator does.
func checkClusterDomain(domain string) error {
	if problems := validation.IsDNS1123Subdomain(domain); len(problems) > 0 {
		return usage{fmt.Errorf("--cluster-domain %q: %s", domain, strings.Join(problems, "; "))}
	}
	return nil
}

// about reports whether the command is about the routes of a namespace: what files hold, or what -n and -A name.
func (i *input) about(namespace string) bool {
	return i.local() || i.everywhere || namespace == i.namespace
}

// concerns reports whether the command is about a route, unless names say more.
func (i *input) concerns(route manifest) bool {
	return i.about(route.GetNamespace()) && i.selector.Matches(labels.Set(route.GetLabels()))
}

// concerned are the routes that the command is about, unless names say more.
func (i *input) concerned(routes []manifest) []manifest {
	return slices.DeleteFunc(slices.Clone(routes), func(m manifest) bool { return !i.concerns(m) })
}

// chosen are the routes that the command is about: those with the names, or all without names.
func (i *input) chosen(routes []manifest, names []string) ([]manifest, error) {
	if i.labels != "" && len(names) > 0 {
		return nil, usage{errors.New("-l excludes names")}
	}
	routes = i.concerned(routes)
	where := i.nothing()
	if len(routes) == 0 {
		return nil, errors.New(where)
	}
	if len(names) == 0 {
		return routes, nil
	}
	names = bareNames(names)
	for _, name := range names {
		if !slices.ContainsFunc(routes, func(m manifest) bool { return m.GetName() == name }) {
			return nil, fmt.Errorf("%s %s%s", where, name, didYouMean(name, routes))
		}
	}
	return slices.DeleteFunc(routes, func(m manifest) bool { return !slices.Contains(names, m.GetName()) }), nil
}

// routeTypes are kubectl's names of the type of routes.
var routeTypes = []string{"externalroute", "externalroutes", "extr"}

// bareNames are names without their type: kubectl takes and prints TYPE/NAME.
func bareNames(arguments []string) (bare []string) {
	for _, argument := range arguments {
		kind, name, found := strings.Cut(argument, "/")
		kind = strings.TrimSuffix(strings.ToLower(kind), "."+routeKind.Group)
		if !found || !slices.Contains(routeTypes, kind) {
			name = argument
		}
		bare = append(bare, name)
	}
	return bare
}

// nothing says that there is no route that the command is about.
func (i *input) nothing() string {
	where := fmt.Sprintf("namespace %s has", i.namespace)
	switch {
	case i.local():
		where = "the input holds"
	case i.everywhere:
		where = "the cluster has"
	}
	if i.labels != "" {
		return fmt.Sprintf("%s no ExternalRoute with %s", where, i.labels)
	}
	return where + " no ExternalRoute"
}

// similar is from which share of equal letters two names are similar, as in Python's difflib.
const similar = 0.6

// didYouMean names the routes whose names are written most like one, three at most.
func didYouMean(name string, routes []manifest) string {
	shares := map[string]float64{}
	for _, m := range routes {
		if share := difflib.NewMatcher(strings.Split(name, ""), strings.Split(m.GetName(), "")).Ratio(); share >= similar {
			shares[m.GetName()] = share
		}
	}
	if len(shares) == 0 {
		return ""
	}
	names := slices.SortedFunc(maps.Keys(shares), func(a, b string) int { return cmp.Or(cmp.Compare(shares[b], shares[a]), cmp.Compare(a, b)) })
	return ": did you mean " + strings.Join(names[:min(3, len(names))], ", ") + "?"
}

func (i *input) addFiles(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&i.files.Filenames, "filename", "f", nil, "file, folder or - (standard input) with ExternalRoutes")
	flags.StringVarP(&i.files.Kustomize, "kustomize", "k", "", "folder with a kustomization")
	flags.BoolVarP(&i.files.Recursive, "recursive", "R", false, "go into the folders of a folder")
}

// read reads all objects of the input. One of a kind that does not exist, or that the input has twice, is a mistake: nobody would judge it.
func (i *input) read() ([]manifest, error) {
	manifests, err := i.readAny()
	if err != nil {
		return nil, err
	}
	var mistakes []error
	first := namesakes{}
	for _, m := range manifests {
		if refusal := unknownKind(m); refusal != nil {
			mistakes = append(mistakes, refused(m, refusal))
		}
		if message := first.taken(m); message != "" {
			twin := finding{Kind: m.GetKind(), Namespace: m.GetNamespace(), Name: m.GetName(), Field: nameField, Message: message}
			mistakes = append(mistakes, fmt.Errorf("%s: %s", place(m.source, m.line(nameField)), twin.text()))
		}
	}
	return manifests, errors.Join(mistakes...)
}

const nameField = "metadata.name"

// namesakes are the first routes and policies of each name.
type namesakes map[string]manifest

// taken says that a route or policy before this one has its name, and is empty if none has.
func (n namesakes) taken(m manifest) string {
	if kind := m.GroupVersionKind().GroupKind(); kind != routeKind && kind != policyKind {
		return ""
	}
	key := m.GetKind() + " " + m.GetNamespace() + "/" + m.GetName()
	other, found := n[key]
	if !found {
		n[key] = m
		return ""
	}
	return place(other.source, other.line(nameField)) + " has an object of this name too, and only one of the two applies: rename or remove one of them"
}

// readAny reads all objects of the input, of whatever kind. A cluster is asked if no files are named, and what could not be read of it is a warning. With an
// error about some files, the objects of the others are returned too.
func (i *input) readAny() ([]manifest, error) {
	if i.local() {
		return i.readFiles()
	}
	manifests, gaps, err := i.readCluster()
	if err != nil {
		return nil, err
	}
	i.gaps = gaps
	i.warn(gaps)
	return manifests, nil
}

// world is the world of what was read.
func (i *input) world(manifests []manifest) (*world, error) {
	w, err := newWorld(manifests, i.clusterDomain)
	if err == nil {
		w.live, w.gaps = !i.local(), i.gaps
	}
	return w, err
}

func (i *input) readFiles() ([]manifest, error) {
	builder := resource.NewLocalBuilder().
		Unstructured().
		ContinueOnError().
		NamespaceParam(i.namespace).DefaultNamespace().
		Flatten()
	places := positions{}
	files := i.files
	if files.Filenames = slices.DeleteFunc(slices.Clone(files.Filenames), func(f string) bool { return f == "-" }); len(files.Filenames) < len(i.files.Filenames) {
		text, err := io.ReadAll(i.In)
		if err != nil {
			return nil, err
		}
		places.index(stdin, text)
		builder.Stream(bytes.NewReader(text), stdin)
	}
	if len(files.Filenames) > 0 || files.Kustomize != "" {
		builder.FilenameParam(false, &files)
	}
	infos, unread := builder.Do().Infos()
	var manifests []manifest
	for _, info := range infos {
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("%s: %T is no manifest", info.Source, info.Object)
		}
		if !places.indexed(info.Source) { // a URL or a kustomization has no lines
			text, _ := os.ReadFile(info.Source)
			places.index(info.Source, text)
		}
		found := manifest{Unstructured: object, position: places.take(info.Source, object)}
		if object.GetNamespace() == "" && !clusterScoped(object.GroupVersionKind().GroupKind()) {
			object.SetNamespace(i.namespace)
		}
		manifests = append(manifests, found)
	}
	return manifests, unread
}

// aboutFile is how the reader of files begins an error about one of them.
var aboutFile = regexp.MustCompile(`^(?:error parsing|unable to decode) "?(.+?)"?: `)

// unreadFiles are those that an error of the reader is about. Any other error is returned.
func unreadFiles(err error) (files []finding, _ error) {
	if err == nil {
		return nil, nil
	}
	for _, problem := range utilerrors.Flatten(utilerrors.NewAggregate([]error{err})).Errors() {
		f := finding{Severity: severityError, Rule: "Unreadable"}
		var path *fs.PathError
		begin := aboutFile.FindString(problem.Error())
		switch {
		case begin != "":
			f.File, f.Message = aboutFile.FindStringSubmatch(begin)[1], strings.TrimPrefix(problem.Error(), begin)
		case errors.As(problem, &path):
			f.File, f.Message = path.Path, path.Err.Error()
		default:
			return nil, err
		}
		f.Message = "cannot be read: " + f.Message
		files = append(files, f)
	}
	return files, nil
}

// clusterScoped reports whether objects of a kind that the commands judge have no namespace.
func clusterScoped(kind schema.GroupKind) bool { return kind == policyKind || kind == namespaceKind }

// ofKind are the manifests of a kind, whatever their version.
func ofKind(manifests []manifest, kind schema.GroupKind) []manifest {
	return slices.DeleteFunc(slices.Clone(manifests), func(m manifest) bool { return m.GroupVersionKind().GroupKind() != kind })
}
