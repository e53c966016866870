#!/usr/bin/env bash
# Tests the Helm chart: by Helm's own eyes, template by template, against the schemas of a real API server, and installed into a real control plane.
# The arguments are passed to `go test`.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$(hack/chart/tools.sh | tail -n 1)

for values in charts/externalroute/ci/*.yaml charts/externalroute/values-*.yaml; do
  for helm in helm helm3; do
    echo "$helm lint --strict -f $values"
    "$tools/$helm" lint --strict --quiet -f "$values" charts/externalroute
  done
done
"$tools/helm-unittest" --strict charts/externalroute
hack/tools/patiently.sh testing go test -C test/chart -count=1 -timeout 20m "$@" ./...
