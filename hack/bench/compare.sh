#!/usr/bin/env bash
# compare.sh [REVISION]: runs the Go benchmarks of this tree and of a revision (defaults to main), in turns, so that a machine that others use too is
# unjust to both alike, and shows the differences that benchstat believes in. COUNT and BENCHTIME say how often and for how long.
set -euo pipefail
cd "$(dirname "$0")/../.."

. hack/release/git.sh

revision=${1:-main}
git rev-parse --verify --quiet "$revision^{commit}" >/dev/null 2>&1 || {
  echo "There is no revision $revision to compare with: compare.sh needs a Git repository that has it." >&2
  exit 1
}
count=${COUNT:-10}
folder=$(mktemp -d)
trap 'git worktree remove --force "$folder/before" 2>/dev/null || true; rm -rf "$folder"' EXIT
git worktree add --quiet --detach "$folder/before" "$revision"

# build TREE NAME: the test binary of each package that has benchmarks, in a folder of the package's path.
build() {
  local package
  mkdir -p "$folder/tests-$2"
  for package in $(cd "$1" && grep -rl --include='*_test.go' '^func Benchmark' internal | sed 's|/[^/]*$||' | sort -u); do
    mkdir -p "$folder/tests-$2/$package"
    go test -C "$1" -c -o "$folder/tests-$2/$package/" "./$package"
  done
}

# measure TREE NAME: one turn of all of them.
measure() {
  local binary
  (cd "$folder/tests-$2" && find ./* -name '*.test') | sort | while read -r binary; do
    (cd "$1/$(dirname "$binary")" && "$folder/tests-$2/$binary" -test.run '^$' -test.bench . -test.benchmem -test.benchtime "${BENCHTIME:-200ms}") >>"$folder/$2.txt"
  done
}

build "$folder/before" before
build "$PWD" after
touch "$folder/before.txt" "$folder/after.txt"
for ((turn = 1; turn <= count; turn++)); do
  echo "turn $turn of $count" >&2
  measure "$folder/before" before
  measure "$PWD" after
done
go tool -modfile=hack/tools/bench/go.mod benchstat "$revision=$folder/before.txt" "this tree=$folder/after.txt"
