#!/usr/bin/env bash
# Fetches Debian's Prometheus and promtool, once, into a cached folder, and prints the folder as its last line. Nothing is installed, so that no Prometheus
# begins to run. PROMETHEUS set by the user wins: it is a folder with both. PROMETHEUS_CACHE moves the cache.
set -euo pipefail

if [[ -n "${PROMETHEUS:-}" ]]; then
  echo "$PROMETHEUS"
  exit 0
fi

folder=${PROMETHEUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/externalroute/prometheus}/$(uname -m)
if [[ ! -x "$folder/promtool" ]]; then
  package=$(mktemp -d)
  trap 'rm -rf "$package"' EXIT
  cd "$package"
  apt-cache show prometheus >/dev/null 2>&1 || apt-get update -qq >&2
  apt-get download -qq -o APT::Sandbox::User=root prometheus >&2
  dpkg-deb -x prometheus_*.deb .
  mkdir -p "$folder"
  install -m 755 usr/bin/prometheus usr/bin/promtool "$folder/"
fi
echo "$folder"
