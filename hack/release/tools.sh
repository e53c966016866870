#!/usr/bin/env bash
# Builds what a release is made with, from the pinned modules, and prints its folder as the last line. Go's build cache makes the second time short.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=$PWD/bin/release-tools
mkdir -p "$folder"
export GOFLAGS="${GOFLAGS:-} -buildvcs=false" # they are not what is released, and the checkout may belong to another user
echo "building the tools of a release (minutes on a cold cache)" >&2
go build -C hack/tools/release -trimpath -o "$folder/" tool >&2
if [[ -d charts/externalroute ]]; then
  go build -C hack/tools/chart -trimpath -o "$folder/helm" helm.sh/helm/v4/cmd/helm >&2
fi
go build -C hack/licenses -trimpath -o "$folder/licenses" . >&2
echo "$folder"
