#!/usr/bin/env bash
# Builds what the chart is tested with into bin/chart, once: Helm 4 and 3, helm-unittest, kubeconform, kwok and its stages, a scheduler, and the Prometheus operator's CRDs.
# Prints that folder as the last line.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$PWD/bin/chart

# once NAME MODULE COMMAND...: runs a command that makes bin/chart/NAME, unless it has run since the module's files last changed.
once() {
  local name=$1 module=$2 stamp
  stamp=$(cat "$module/go.mod" "$module/go.sum" hack/chart/tools.sh | cksum)
  [[ -e "$folder/$name" && "$(cat "$folder/.$name" 2>/dev/null)" == "$stamp" ]] && return
  echo "making $name (minutes on a cold cache, seconds on a warm one)" >&2
  hack/tools/patiently.sh "making $name" "${@:3}"
  echo "$stamp" >"$folder/.$name"
}

# build NAME MODULE PACKAGE [LDFLAGS]
build() {
  once "$1" "$2" env CGO_ENABLED=0 go build -C "$2" -trimpath -ldflags "-s -w ${4:-}" -o "$folder/$1" "$3"
}

# The types of the Prometheus operator come as Go alone. controller-gen finds them through the module that it runs in.
monitoring_crds() {
  (cd hack/tools/chart/monitoring && go tool -modfile=../../go.mod controller-gen crd \
    paths=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1 output:crd:dir="$folder/monitoring")
}
# What a simulated node says of itself and of its pods: all is well, at once.
stages() {
  local module
  go mod -C hack/tools/chart/kwok download sigs.k8s.io/kwok
  module=$(go list -C hack/tools/chart/kwok -m -f '{{.Dir}}' sigs.k8s.io/kwok)
  for file in "$module"/kustomize/stage/{node,pod}/fast/*.yaml; do
    [[ "$file" == */kustomization.yaml ]] || { echo ---; cat "$file"; }
  done >"$folder/stages.yaml"
}
export -f monitoring_crds stages
export folder

mkdir -p "$folder"
kubernetes=$(go list -C hack/controlplane -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
build helm hack/tools/chart helm.sh/helm/v4/cmd/helm
build helm3 hack/tools/chart helm.sh/helm/v3/cmd/helm
build helm-unittest hack/tools/chart github.com/helm-unittest/helm-unittest/cmd/helm-unittest
build kubeconform hack/tools/chart github.com/yannh/kubeconform/cmd/kubeconform
build kwok hack/tools/chart/kwok sigs.k8s.io/kwok/cmd/kwok
build kube-scheduler hack/controlplane k8s.io/kubernetes/cmd/kube-scheduler \
  "-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=$major -X k8s.io/component-base/version.gitMinor=$minor"
once stages.yaml hack/tools/chart/kwok bash -euo pipefail -c stages
once monitoring hack/tools/chart/monitoring bash -euo pipefail -c monitoring_crds
echo "$folder"
