package mesh

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"istio.io/istio/pkg/config/schema/collections"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// randomSeeds is how many random routes are drawn, unless RANDOM_SEEDS says otherwise; RANDOM_FROM is the first seed.
const randomSeeds = 2000

// Random routes, drawn and translated by the operator's own module (test/random): what the API server admits becomes objects that Istio's validators accept
// and whose every field Istio knows, or is refused with the fields to correct.
func TestRandomRoutes(t *testing.T) {
	seeds, from := number(t, "RANDOM_SEEDS", randomSeeds), number(t, "RANDOM_FROM", 0)
	begin := time.Now()
	admitted, accepted, objects := 0, 0, 0
	for c := range randomCases(t, from, seeds) {
		admitted++
		var problems []error
		if c.Error != "" {
			problems = append(problems, errors.New(c.Error))
		}
		if c.Refused == "" {
			accepted++
		}
		for _, object := range c.Generated {
			objects++
			problems = append(problems, validate(t, object))
		}
		if err := errors.Join(problems...); err != nil {
			text, _ := yaml.Marshal(c.Route.Object)
			t.Errorf("seed %d: %v\n%s", c.Seed, err, text)
		}
	}
	took := time.Since(begin)
	t.Logf("of %d routes drawn %d were admitted, of those %d accepted, with %d objects, in %s: %.0f routes a second",
		seeds, admitted, accepted, objects, took.Round(time.Second), float64(seeds)/took.Seconds())
	if admitted < seeds/2 || accepted < admitted/4 {
		t.Error("too few routes are admitted or accepted to say anything")
	}
}

// randomCase is a line of test/random/cases.
type randomCase struct {
	Seed      int                          `json:"seed"`
	Route     *unstructured.Unstructured   `json:"route"`
	Refused   string                       `json:"refused"`
	Generated []*unstructured.Unstructured `json:"generated"`
	Error     string                       `json:"error"`
}

// randomCases are the random routes of some seeds that the API server would admit.
func randomCases(t *testing.T, from, seeds int) func(yield func(randomCase) bool) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "cases")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "./test/random/cases")
	build.Dir = "../.."
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the generator: %v: %s", err, output)
	}
	command := exec.CommandContext(t.Context(), program, "-from", strconv.Itoa(from), "-seeds", strconv.Itoa(seeds))
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bufio.NewReaderSize(output, 1<<20))
	return func(yield func(randomCase) bool) {
		for {
			var c randomCase
			if err := decoder.Decode(&c); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("read a random route: %v", err)
			}
			if !yield(c) {
				t.Fatal("the generator is read to its end, or what it says of itself is lost")
			}
		}
		if err := command.Wait(); err != nil {
			t.Errorf("the generator: %v", err)
		}
	}
}

// validate says what Istio's validators refuse, and which fields Istio does not know.
func validate(t *testing.T, object *unstructured.Unstructured) error {
	t.Helper()
	if object.GetKind() == "Service" {
		return nil
	}
	c := istioConfig(t, object)
	collection, known := collections.Pilot.FindByGroupVersionKind(c.GroupVersionKind)
	if !known {
		return fmt.Errorf("istio has no %s", object.GroupVersionKind())
	}
	_, err := collection.ValidateConfig(c)
	if err := errors.Join(err, unknownFields(collection, object)); err != nil {
		return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

func number(t *testing.T, variable string, fallback int) int {
	t.Helper()
	text, set := os.LookupEnv(variable)
	if !set || text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}
