#!/usr/bin/env bash
# Copies into the chart what is written elsewhere: the CRDs, the roles, lockdown, the alerts and the dashboard; and makes its README from values.yaml.
set -euo pipefail
cd "$(dirname "$0")/../.."

# copy FILE TARGET: where there is no such file, nothing of that name stays in the chart either.
copy() {
  local target=charts/externalroute/files/$2
  rm -f "$target"
  [[ -e "$1" ]] || return 0
  mkdir -p "${target%/*}"
  cp "$1" "$target"
}

rm -rf charts/externalroute/files/{crds,rbac,lockdown}
for file in config/crd/bases/*.yaml; do copy "$file" "crds/${file##*/}"; done
for file in config/rbac/*role.yaml config/rbac/metrics_reader_role.yaml; do copy "$file" "rbac/${file##*/}"; done
for file in policy.yaml binding.yaml; do copy "config/lockdown/$file" "lockdown/$file"; done
copy config/prometheus/alerts.yaml alerts.yaml
copy config/grafana/externalroute.json dashboard.json
go tool -modfile=hack/tools/chart/go.mod helm-docs --chart-search-root=charts --badge-style=flat --log-level=warning
