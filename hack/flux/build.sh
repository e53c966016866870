#!/usr/bin/env bash
# Builds Flux's source-controller and kustomize-controller from their modules, once, into a cached folder, and prints the folder as its last line.
# FLUX set by the user wins: then nothing is built. FLUX_CACHE moves the cache.
set -euo pipefail

fail() {
  echo "hack/flux/build.sh: $*" >&2
  exit 1
}

controllers=(source-controller kustomize-controller)
if [[ -n "${FLUX:-}" ]]; then
  for controller in "${controllers[@]}"; do
    [[ -x "$FLUX/$controller" ]] || fail "FLUX is $FLUX, which has no program $controller"
  done
  echo "$FLUX"
  exit 0
fi
command -v go >/dev/null || fail "Flux's controllers are built from their Go modules, which needs Go (see go.mod for the version)"

cd "$(dirname "$0")"
key=$(go env GOOS)-$(go env GOARCH)-$(cat go.mod go.sum build.sh | cksum | cut -d' ' -f1)
folder=${FLUX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/externalroute/flux}/$key

for controller in "${controllers[@]}"; do
  [[ ! -x "$folder/$controller" ]] || continue
  echo "building $controller (minutes on a cold cache, seconds on a warm one)" >&2
  mkdir -p "$folder"
  go build -buildvcs=false -ldflags "-s -w" -o "$folder/.$controller.$$" "github.com/fluxcd/$controller"
  mv "$folder/.$controller.$$" "$folder/$controller" # the rename makes a cut-off build harmless
done
echo "$folder"
