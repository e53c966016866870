#!/usr/bin/env bash
# Builds what the chart is tested with into bin/chart, once: Helm 4 and 3, helm-unittest, kubeconform, kwok and its stages, a scheduler and a controller manager, and the Prometheus operator's CRDs.
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

# build NAME MODULE PACKAGE [LDFLAGS]: compiler flags stay Go's own, so that what Kubernetes' own programs share is compiled once.
build() {
  once "$1" "$2" go build -C "$2" -buildvcs=false -ldflags "-s -w ${4:-}" -o "$folder/$1" "$3"
}

# The types of the Prometheus operator come as Go alone. controller-gen finds them through the module that it runs in.
monitoring_crds() {
  (cd hack/tools/chart/monitoring && go tool -modfile=../../go.mod controller-gen crd \
    paths=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1 output:crd:dir="$folder/monitoring")
}
# What a simulated node says of itself and of its pods: all is well, at once.
stages() {
  local answer module
  answer=$(cd hack/tools/chart/kwok && go mod download -json sigs.k8s.io/kwok) || true # which tells a failure in its answer alone
  module=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p' <<<"$answer")
  if [[ -z "$module" ]]; then
    echo "go mod download gave no folder for sigs.k8s.io/kwok, whose stages the tests of the chart need: $answer" >&2
    return 1
  fi
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
stamp="-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=$major -X k8s.io/component-base/version.gitMinor=$minor"
build kube-scheduler hack/controlplane k8s.io/kubernetes/cmd/kube-scheduler "$stamp"
build kube-controller-manager hack/controlplane k8s.io/kubernetes/cmd/kube-controller-manager "$stamp"
once stages.yaml hack/tools/chart/kwok bash -euo pipefail -c stages
once monitoring hack/tools/chart/monitoring bash -euo pipefail -c monitoring_crds
echo "$folder"
