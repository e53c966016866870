#!/usr/bin/env bash
# Finds or builds the binaries of a real Kubernetes control plane, and prints their folder as its last line: see main.go.
set -euo pipefail

if [[ -d "${KUBEBUILDER_ASSETS:-}" ]]; then
  KUBEBUILDER_ASSETS=$(cd "$KUBEBUILDER_ASSETS" && pwd)
  export KUBEBUILDER_ASSETS
fi
cd "$(dirname "$0")"
exec go run -buildvcs=false . "$@"
