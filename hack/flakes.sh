#!/usr/bin/env bash
# flakes.sh [-n RUNS] [--race RUNS] [TARGET]: runs `make TARGET` (test) again and again while busy loops share the cores, which shows tests that depend on
# timing. RUNS and RACE_RUNS in the environment mean the same; TESTFLAGS are passed on. Each run prints one line. The log of a failed run stays.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL ARGS # of a make that calls this

runs=${RUNS:-10} race=${RACE_RUNS:-2} target=test
usage() { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
while [[ $# -gt 0 ]]; do
  case $1 in
    -n) [[ $# -gt 1 ]] || usage; runs=$2; shift 2 ;;
    --race) [[ $# -gt 1 ]] || usage; race=$2; shift 2 ;;
    -*) usage ;;
    *) target=$1; shift ;;
  esac
done
[[ $runs =~ ^[1-9][0-9]*$ && $race =~ ^[0-9]+$ ]] || usage

loops=() job=''
end() {
  trap - EXIT INT TERM HUP
  [[ -z $job ]] || kill -- "-$job" 2>/dev/null || true
  [[ ${#loops[@]} -eq 0 ]] || kill "${loops[@]}" 2>/dev/null || true
  exit "$1"
}
trap 'end $?' EXIT
trap 'end 130' INT
trap 'end 143' TERM
trap 'end 129' HUP

# A loop looks now and then whether this script still lives: it may be killed by a signal that no trap sees.
busy() { while kill -0 $$ 2>/dev/null; do for ((i = 0; i < 100000; i++)); do :; done; done; }
for _ in 1 2; do
  busy &
  loops+=($!)
done

logs=$(mktemp -d) failed=0
for ((run = 1; run <= runs; run++)); do
  flags="-count=1 -timeout=60m ${TESTFLAGS:-}" what="run $run of $runs"
  if ((run > runs - race)); then flags="-race $flags" what+=" (-race)"; fi
  log=$logs/run-$run.log began=$SECONDS
  set -m # in a process group of its own, which can be ended as a whole
  make "$target" TESTFLAGS="$flags" >"$log" 2>&1 &
  job=$!
  set +m
  if wait "$job"; then
    echo "$what: ok, $((SECONDS - began)) s"
    rm "$log"
  else
    failed=$((failed + 1))
    echo "$what: FAILED, $((SECONDS - began)) s: $log"
    grep -E -e '^ *--- FAIL|^FAIL|^panic' "$log" | head -n 20 || true
  fi
  job=''
done
rmdir "$logs" 2>/dev/null || true
if ((failed > 0)); then
  echo "$failed of $runs runs failed"
  exit 1
fi
echo "all $runs runs passed"
