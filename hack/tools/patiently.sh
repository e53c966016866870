#!/usr/bin/env bash
# patiently.sh WHAT COMMAND...: runs a command that may be silent for minutes, such as a cold build, and tells every half minute that it is still at it.
set -euo pipefail

what=$1
shift
# The sleep that is under way outlives us, and holds no pipe open.
while sleep 30 >/dev/null 2>&1; do echo "  ... $what: $SECONDS s" >&2; done &
clock=$!
trap 'kill "$clock" 2>/dev/null || true' EXIT
"$@"
