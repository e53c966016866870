package controlplane

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// assets returns the folder of the binaries: KUBEBUILDER_ASSETS, or what hack/controlplane builds, which takes minutes the first time.
func assets() (string, error) {
	if folder := os.Getenv("KUBEBUILDER_ASSETS"); folder != "" {
		return filepath.Abs(folder)
	}
	folder, err := LastLine("./hack/controlplane/build.sh")
	if err != nil {
		return "", fmt.Errorf("build the control plane: %w", err)
	}
	return folder, nil
}

// IstioCRDs returns Istio's CustomResourceDefinitions, in the version that this module requires.
func IstioCRDs() ([]byte, error) {
	module, err := LastLine("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api")
	if err != nil {
		return nil, fmt.Errorf("find Istio's CRDs: %w", err)
	}
	return os.ReadFile(filepath.Join(module, "kubernetes", "customresourcedefinitions.gen.yaml"))
}

// LastLine runs a command in the repository and returns the last line that it prints. Its progress is shown.
func LastLine(name string, args ...string) (string, error) {
	command := exec.Command(name, args...)
	_, thisFile, _, _ := runtime.Caller(0)
	command.Dir = filepath.Join(filepath.Dir(thisFile), "..", "..")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("run %s: %w", name, err)
	}
	lines := bytes.Split(bytes.TrimSpace(output), []byte("\n"))
	return string(lines[len(lines)-1]), nil
}
