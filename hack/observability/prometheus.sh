#!/usr/bin/env bash
# Prints the folder of Prometheus and promtool as its last line: PROMETHEUS if it is set, else that of the promtool in PATH, else a cached folder into which
# it fetches Debian's package once. Nothing is installed, so that no Prometheus begins to run. PROMETHEUS_CACHE moves the cache.
set -euo pipefail

if [[ -n "${PROMETHEUS:-}" ]]; then
  echo "$PROMETHEUS"
  exit 0
fi
if command -v promtool >/dev/null && [[ -x "$(dirname "$(command -v promtool)")/prometheus" ]]; then
  dirname "$(command -v promtool)"
  exit 0
fi

# give_up REASON
give_up() {
  echo "There is no Prometheus, and it could not be fetched: $1. Install prometheus and promtool, or set PROMETHEUS to the folder of both." >&2
  exit 1
}

folder=${PROMETHEUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/externalroute/prometheus}/$(uname -m)
if [[ ! -x "$folder/promtool" ]]; then
  command -v apt-get >/dev/null || give_up "only Debian's package manager is supported"
  if ! apt-cache show prometheus >/dev/null 2>&1; then
    [[ $(id -u) -eq 0 ]] || give_up "apt knows no package prometheus; root must run apt-get update first"
    apt-get update -qq >&2 || give_up "apt-get update failed"
  fi
  package=$(mktemp -d)
  trap 'rm -rf "$package"' EXIT
  cd "$package"
  apt-get download -qq -o APT::Sandbox::User=root prometheus >&2 || give_up "apt-get download failed"
  dpkg-deb -x prometheus_*.deb .
  mkdir -p "$folder"
  install -m 755 usr/bin/prometheus usr/bin/promtool "$folder/"
fi
echo "$folder"
