package controlplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// assets returns the folder of the binaries. Where KUBEBUILDER_ASSETS does not name all of them, hack/controlplane finds or builds the others, which
// takes minutes the first time.
func assets() (string, error) {
	if folder := os.Getenv("KUBEBUILDER_ASSETS"); folder != "" && complete(folder) {
		return filepath.Abs(folder)
	}
	folder, err := LastLine("./hack/controlplane/build.sh")
	if err != nil {
		return "", fmt.Errorf("find the binaries of the control plane: %w", err)
	}
	return folder, nil
}

func complete(folder string) bool {
	for _, name := range []string{APIServer, Etcd, Controllers, "kubectl"} {
		if _, err := exec.LookPath(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

// IstioCRDs returns Istio's CustomResourceDefinitions, in the version that this module requires.
func IstioCRDs() ([]byte, error) {
	folder, err := moduleFolder(".", "istio.io/api")
	if err != nil {
		return nil, fmt.Errorf("find Istio's CRDs: %w", err)
	}
	return os.ReadFile(filepath.Join(folder, "kubernetes", "customresourcedefinitions.gen.yaml"))
}

// GatewayAPICRDs returns the CRDs of the kinds by which the Gateway API configures waypoints.
func GatewayAPICRDs() ([]byte, error) {
	folder, err := moduleFolder("hack/istiod", "sigs.k8s.io/gateway-api")
	if err != nil {
		return nil, fmt.Errorf("find the CRDs of the Gateway API: %w", err)
	}
	var all []byte
	for _, plural := range []string{"gatewayclasses", "gateways"} {
		content, err := os.ReadFile(filepath.Join(folder, "config", "crd", "standard", "gateway.networking.k8s.io_"+plural+".yaml"))
		if err != nil {
			return nil, err
		}
		all = append(all, "\n---\n"...)
		all = append(all, content...)
	}
	return all, nil
}

// FluxCRDs returns the CRDs of Flux's source-controller and kustomize-controller, in the versions that hack/flux builds.
func FluxCRDs() ([]byte, error) {
	var all []byte
	for _, controller := range []string{"source-controller", "kustomize-controller"} {
		folder, err := moduleFolder("hack/flux", "github.com/fluxcd/"+controller)
		if err != nil {
			return nil, fmt.Errorf("find Flux's CRDs: %w", err)
		}
		files, err := filepath.Glob(filepath.Join(folder, "config", "crd", "bases", "*.yaml"))
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("find Flux's CRDs: %s has none", folder)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			all = append(all, "\n---\n"...)
			all = append(all, content...)
		}
	}
	return all, nil
}

// moduleFolder returns the folder of a module that another one in this repository requires, and downloads it first where nothing has: go list knows no
// folder then.
func moduleFolder(in, path string) (string, error) {
	output, err := Run("go", "-C", in, "mod", "download", "-json", path)
	if err != nil {
		return "", err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(output, &module); err != nil {
		return "", fmt.Errorf("read what go mod download printed: %w", err)
	}
	if module.Dir == "" {
		return "", fmt.Errorf("go mod download named no folder for %s", path)
	}
	return module.Dir, nil
}

// Repository returns the folder of this repository, in which the working directory is.
func Repository() (string, error) {
	working, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for folder := working; ; folder = filepath.Dir(folder) {
		content, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err == nil && bytes.HasPrefix(content, []byte("module github.com/externalroute/externalroute\n")) {
			return folder, nil
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("%s is not in a checkout of ExternalRoute: change to one", working)
		}
	}
}

// LastLine runs a command in the repository and returns the last line that it prints.
func LastLine(name string, args ...string) (string, error) {
	output, err := Run(name, args...)
	if err != nil {
		return "", err
	}
	lines := bytes.Split(bytes.TrimSpace(output), []byte("\n"))
	last := string(lines[len(lines)-1])
	if last == "" {
		return "", fmt.Errorf("run %s: it printed nothing", name)
	}
	return last, nil
}

// Run runs a command in the repository and returns what it prints. Its progress is shown.
func Run(name string, args ...string) ([]byte, error) {
	repository, err := Repository()
	if err != nil {
		return nil, err
	}
	command := exec.Command(name, args...)
	command.Dir = repository
	command.Stderr = os.Stderr
	output, err := command.Output()
	if exit := (&exec.ExitError{}); errors.As(err, &exit) && len(output) > 0 { // go mod download -json prints its errors there
		return nil, fmt.Errorf("run %s: %w\n%s", name, err, output)
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", name, err)
	}
	return output, nil
}
