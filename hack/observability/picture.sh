#!/usr/bin/env bash
# Draws docs/images/dashboard.png: the dashboard's panels with what their queries answered over a run of the tests. Needs Python 3 with venv.
set -euo pipefail
cd "$(dirname "$0")/../.."

python3 -c 'import ensurepip, venv' || { echo "picture.sh needs Python 3 with venv and pip (Debian: python3-venv)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -r hack/observability/requirements.txt
hack/observability/test.sh -results "$work/results.json"
"$work/venv/bin/python" hack/observability/picture.py config/grafana/externalroute.json "$work/results.json" docs/images/dashboard.png
