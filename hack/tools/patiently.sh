#!/usr/bin/env bash
# patiently.sh WHAT COMMAND...: runs a command that may be silent for minutes, such as a cold build, and tells every half minute that it is still at it.
set -euo pipefail

what=$1
shift
exec {never}<> <(:) # nobody writes to it: reading waits without a process of its own, which would outlive us
while ! read -r -t 30 -u "$never"; do echo "  ... $what: $SECONDS s" >&2; done &
clock=$!
trap 'kill "$clock" 2>/dev/null || true' EXIT
"$@"
