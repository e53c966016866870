#!/usr/bin/env bash
# cold.sh [TARGET...]: makes each target (demo and test, if none is named) as the first command of a user whose machine has never seen the project: in a
# clone of the last commit of its own, or a copy if git has none, with empty HOME, module cache, build cache and tool caches. It prints the seconds of each.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
[[ $# -gt 0 ]] || set -- demo test
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL ARGS # of a make that calls this

machine=''
trap '[[ -z $machine ]] || rm -rf "$machine"' EXIT
trap 'exit 130' INT TERM

# fetch FOLDER: gets the source. Git reads a repository of another user only with an option, at both ends.
fetch() {
  if [[ -e $repository/.git ]]; then
    git clone --quiet --upload-pack "git -c safe.directory='*' upload-pack" "$repository" "$1"
  else
    echo "=== there is no git history: the tree is copied as it is"
    mkdir "$1"
    tar -C "$repository" --exclude ./bin --exclude ./dist -cf - . | tar -C "$1" -xf -
  fi
}

# stranger COMMAND...: runs a command without anything that an earlier run may have left, or that names it.
stranger() {
  env -u KUBEBUILDER_ASSETS -u CONTROLPLANE_CACHE -u ENVTEST_INSTALLED_ONLY -u ENVOY -u ENVOY_CACHE -u ISTIOD -u ISTIOD_CACHE -u FLUX -u FLUX_CACHE -u PROMETHEUS \
    -u PROMETHEUS_CACHE -u PIP_CACHE_DIR HOME="$machine/home" XDG_CACHE_HOME="$machine/cache" XDG_DATA_HOME="$machine/data" \
    XDG_CONFIG_HOME="$machine/config" GOMODCACHE="$machine/modules" GOCACHE="$machine/build" GOFLAGS=-modcacherw "$@"
}

summary=()
failed=''
for target in "$@"; do
  machine=$(mktemp -d)
  mkdir "$machine/home"
  fetch "$machine/externalroute"
  echo "=== make $target, with nothing there yet"
  began=$SECONDS
  result=ok
  stranger make -C "$machine/externalroute" "$target" || result=FAILED
  summary+=("$(printf '%-20s %5d s  %s' "make $target" $((SECONDS - began)) "$result")")
  [[ $result == ok ]] || failed=yes
  rm -rf "$machine"
done
echo "=== from a cold start, on $(getconf _NPROCESSORS_ONLN) processors"
printf '%s\n' "${summary[@]}"
[[ -z $failed ]]
