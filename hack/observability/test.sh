#!/usr/bin/env bash
# Tests alerts, dashboard and logs: the alerts with promtool, the rest over a run of the operator with a real Prometheus beside it. Arguments are go test's.
set -euo pipefail
cd "$(dirname "$0")/../.."

PROMETHEUS=$(hack/observability/prometheus.sh | tail -n 1)
export PROMETHEUS
"$PROMETHEUS/promtool" check rules --lint-fatal config/prometheus/alerts.yaml
"$PROMETHEUS/promtool" test rules config/prometheus/alerts_test.yaml
go test ./test/observability -count=1 -v -timeout 20m "$@"
