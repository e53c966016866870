#!/usr/bin/env bash
# Builds the pieces of a real Kubernetes control plane from their Go modules, once, into a cached folder, and prints that folder as its last line.
# KUBEBUILDER_ASSETS set by the user wins: then nothing is built. CONTROLPLANE_CACHE moves the cache.
set -euo pipefail

if [[ -n "${KUBEBUILDER_ASSETS:-}" ]]; then
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi

cd "$(dirname "$0")"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
key=$version-$(go env GOOS)-$(go env GOARCH)-$(cat go.mod go.sum build.sh | cksum | cut -d' ' -f1)
folder=${CONTROLPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/externalroute/controlplane}/$key
ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=$major -X k8s.io/component-base/version.gitMinor=$minor"

# build NAME PACKAGE: compiles one binary and tells how far it is. The rename at the end makes a cut-off build harmless.
build() {
  [[ -x "$folder/$1" ]] && return
  echo "building $1 $version (minutes on a cold cache, seconds on a warm one)" >&2
  CGO_ENABLED=0 go build -v -trimpath -ldflags "$ldflags" -o "$folder/.$1" "$2" 2>&1 |
    awk -v name="$1" '/^go: downloading/ {next} /^[a-zA-Z0-9._\/-]+$/ {n++; if (n % 100 == 0) print "  " name ": " n " packages compiled"; fflush(); next} {print}' >&2
  mv "$folder/.$1" "$folder/$1"
}

mkdir -p "$folder"
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
build etcd go.etcd.io/etcd/server/v3
build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
build kubectl k8s.io/kubernetes/cmd/kubectl
echo "$folder"
