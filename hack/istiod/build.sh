#!/usr/bin/env bash
# Builds istiod (pilot-discovery) from Istio's module, once, into a cached folder, and prints the binary's path as its last line.
# ISTIOD set by the user wins: then nothing is built. ISTIOD_CACHE moves the cache.
set -euo pipefail

fail() {
  echo "hack/istiod/build.sh: $*" >&2
  exit 1
}

if [[ -n "${ISTIOD:-}" ]]; then
  [[ -x "$ISTIOD" ]] || fail "ISTIOD is $ISTIOD, which is no program"
  echo "$ISTIOD"
  exit 0
fi
command -v go >/dev/null || fail "istiod is built from its Go module, which needs Go (see go.mod for the version)"

cd "$(dirname "$0")"
package=istio.io/istio/pilot/cmd/pilot-discovery
version=$(go list -m -f '{{.Version}}' istio.io/istio)
key=$version-$(go env GOOS)-$(go env GOARCH)-$(cat go.mod go.sum build.sh | cksum | cut -d' ' -f1)
folder=${ISTIOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/externalroute/istiod}/$key

# progress TOTAL: reads the names of packages as go compiles them, and tells now and then how far it is. Other lines are problems.
progress() {
  local line compiled=0 begin=$SECONDS
  while read -r line; do
    case $line in
    "go: downloading "*) ;;
    *[!a-zA-Z0-9._/-]*) echo "$line" ;;
    *)
      compiled=$((compiled + 1))
      if ((compiled % 100 == 0)); then
        echo "  istiod: $compiled of at most $1 packages, about $(((SECONDS - begin) * ($1 - compiled) / compiled)) s left at this pace"
      fi
      ;;
    esac
  done
}

if [[ ! -x "$folder/pilot-discovery" ]]; then
  echo "building istiod $version (minutes on a cold cache, seconds on a warm one)" >&2
  mkdir -p "$folder"
  total=$(go list -deps "$package" 2> >(grep -v '^go: downloading ' >&2) | wc -l | tr -d ' ') # this downloads the modules
  [[ $total -gt 0 ]] || fail "go list -deps $package printed nothing"
  # Compiler flags stay Go's own, so that test/mesh, which compiles the same packages, shares the build cache. The rename makes a cut-off build harmless.
  go build -v -buildvcs=false -ldflags "-s -w" -o "$folder/.pilot-discovery.$$" "$package" 2>&1 | progress "$total" >&2
  mv "$folder/.pilot-discovery.$$" "$folder/pilot-discovery"
fi
echo "$folder/pilot-discovery"
