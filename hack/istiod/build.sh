#!/usr/bin/env bash
# Builds istiod (pilot-discovery) from Istio's module, once, into a cached folder, with Istio's CRDs beside it, and prints the binary's path as its last line.
# ISTIOD set by the user wins: then nothing is built. ISTIOD_CACHE moves the cache.
set -euo pipefail

if [[ -n "${ISTIOD:-}" ]]; then
  echo "$ISTIOD"
  exit 0
fi

cd "$(dirname "$0")"
version=$(go list -m -f '{{.Version}}' istio.io/istio)
key=$version-$(go env GOOS)-$(go env GOARCH)-$(cat go.mod go.sum build.sh | cksum | cut -d' ' -f1)
folder=${ISTIOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/externalroute/istiod}/$key

if [[ ! -x "$folder/pilot-discovery" ]]; then
  echo "building pilot-discovery $version (minutes on a cold cache, seconds on a warm one)" >&2
  mkdir -p "$folder"
  go mod download istio.io/api
  install -m 644 "$(go list -m -f '{{.Dir}}' istio.io/api)/kubernetes/customresourcedefinitions.gen.yaml" "$folder/crds.yaml"
  # Compiler flags stay Go's own, so that test/mesh, which compiles the same packages, shares the build cache. The rename makes a cut-off build harmless.
  go build -v -ldflags "-s -w" -o "$folder/.pilot-discovery" istio.io/istio/pilot/cmd/pilot-discovery 2>&1 |
    awk '/^go: downloading/ {next} /^[a-zA-Z0-9._\/-]+$/ {n++; if (n % 100 == 0) print "  pilot-discovery: " n " packages compiled"; fflush(); next} {print}' >&2
  mv "$folder/.pilot-discovery" "$folder/pilot-discovery"
fi
echo "$folder/pilot-discovery"
