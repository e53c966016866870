#!/usr/bin/env bash
# Makes a whole release of the last commit, twice and in two folders, and publishes nothing: the images go to a registry on this machine that ends with the
# script. Then looks at what came out. VERSION is the release to play; the result is left in dist/. COLD=1 gives the second build a build cache of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."

. hack/release/git.sh
[[ $(uname) == Linux ]] || { echo "Releases are made on Linux only: GNU tar and sha256sum make archives the same everywhere." >&2; exit 1; }
git rev-parse HEAD >/dev/null 2>&1 || {
  echo "A release is made of a commit, and this is not a Git repository, such as the source of an archive." >&2
  exit 1
}

version=${VERSION:-v0.0.0-dryrun}
[[ "$version" == v[0-9]*.[0-9]*.[0-9]* ]] || version=v0.0.0-dryrun # a make that hands on its own idea of a version
tools=$(hack/release/tools.sh | tail -n 1)
PATH=$tools:$PATH
work=$(mktemp -d)
registry_pid=
cleanup() {
  [[ -z "$registry_pid" ]] || kill "$registry_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

passed=0
unchecked=()
# check WHAT COMMAND...: tells that something holds, or ends the script. The command runs beside us, since in a condition bash would not end a function where
# one of its lines fails.
check() {
  local what=$1
  shift
  "$@" >"$work/output" 2>&1 &
  if ! wait $!; then
    tail -n 40 "$work/output" >&2
    echo "FAILED: $what" >&2
    exit 1
  fi
  passed=$((passed + 1))
  echo "ok      $what"
}

start_registry() {
  crane registry serve --address 127.0.0.1:0 2>"$work/registry" &
  registry_pid=$!
  until grep -q 'serving on port' "$work/registry"; do
    kill -0 "$registry_pid"
    sleep 0.1
  done
  registry=127.0.0.1:$(grep -o 'port [0-9]*' "$work/registry" | cut -d' ' -f2)
}

# choose_base puts an empty image in the place of the real base where that cannot be fetched.
choose_base() {
  base=$(sed -n 's/^defaultBaseImage: //p' .ko.yaml)
  if timeout 30 crane digest "$base" >/dev/null 2>&1; then
    return
  fi
  unchecked+=("the base image $base, which cannot be fetched here: the image was built on an empty one")
  base=$registry/empty
  tar -cf "$work/empty.tar" -T /dev/null
  local arguments=()
  for platform in linux/amd64 linux/arm64; do
    crane append --oci-empty-base -f "$work/empty.tar" -t "$base:${platform#*/}" >/dev/null 2>&1
    crane mutate --set-platform "$platform" -t "$base:${platform#*/}" "$base:${platform#*/}" >/dev/null 2>&1
    arguments+=(-m "$base:${platform#*/}")
  done
  crane index append "${arguments[@]}" -t "$base:latest" >/dev/null 2>&1
}

# release FOLDER: makes the release in a clone of its own.
release() {
  echo "=== a release in $1 ($(date -u +%H:%M:%S))"
  git -c advice.detachedHead=false clone -q "$work/commits" "$work/$1"
  git -C "$work/$1" tag -f "$version" >/dev/null
  local cache
  cache=$(go env GOCACHE)
  [[ -z "${COLD:-}" || "$1" != another ]] || cache=$work/cache
  GOCACHE=$cache IMAGE=ghcr.io/externalroute/externalroute KO_DOCKER_REPO=$registry/$1 KO_DEFAULTBASEIMAGE=$base \
    "$work/$1/hack/release/release.sh" "$version" --skip=publish,announce,sign >"$work/$1.log" 2>&1 || {
    tail -n 60 "$work/$1.log" >&2
    return 1
  }
}

# stamped COMMAND: the linker finds main.version in it, and something reads it; otherwise the linker silently omits it. (The build id tells the flags.)
stamped() {
  for value in v1 v2; do
    CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$value" -o "$work/stamped-$value" "./cmd/$1"
  done
  if cmp "$work/stamped-v1" "$work/stamped-v2"; then
    echo "cmd/$1 has no variable version that it reads"
    return 1
  fi
}

# digests FOLDER: the content of a release, without goreleaser's notes of times and folders and without the registry's name.
digests() (
  cd "$work/$1/dist"
  find . -type f ! -path ./release/metadata.json ! -path ./release/artifacts.json ! -path ./release/config.yaml ! -path ./image.txt -print0 |
    sort -z | xargs -0 sha256sum
  sed 's/.*@//' image.txt
)

reproducible() {
  diff <(digests one) <(digests another)
}

image_holds() {
  local platform=$1 config
  config=$(crane config --platform "$platform" "$image")
  grep -q '"User":"65532:65532"' <<<"$config"
  grep -q '"Entrypoint":\["/ko-app/manager"\]' <<<"$config"
  grep -q "\"org.opencontainers.image.version\":\"${version#v}\"" <<<"$config"
  grep -q "\"architecture\":\"${platform#*/}\"" <<<"$config"
  rm -rf "$work/image"
  mkdir "$work/image"
  crane export --platform "$platform" "$image" - | tar -x --no-same-owner -C "$work/image"
  cmp "$work/image/var/run/ko/THIRD-PARTY-NOTICES.txt" dist/THIRD-PARTY-NOTICES.txt
  cmp "$work/image/var/run/ko/LICENSE" LICENSE
  go version -m "$work/image/ko-app/manager" | grep -q "vcs.revision=$(git rev-parse HEAD)"
  go version -m "$work/image/ko-app/manager" | grep -q "vcs.modified=false"
}

sboms_complete() {
  local binary sbom count=0
  for binary in dist/release/*/manager dist/release/*/kubectl-externalroute*; do
    sbom=$(basename "$(dirname "$binary")") # such as manager_linux_amd64_v1
    sbom=${sbom%_v[0-9]*}
    sbom=$(ls "dist/release/${sbom%%_*}_${version#v}_${sbom#*_}.cdx.json")
    [[ $(grep -c '"bom-ref"' "$sbom") -eq $(($(go version -m "$binary" | grep -c $'^\tdep\t') + 2)) ]] # the binary itself and Go's library beside them
    count=$((count + 1))
  done
  [[ $count -eq 7 ]]
}

archives_hold() {
  local archive listing count=0
  for archive in dist/release/*_{linux,darwin}_*.tar.gz dist/release/*.zip; do
    case $archive in
      *.zip) listing=$(python3 -m zipfile -l "$archive") ;;
      *) listing=$(tar -tzf "$archive") ;;
    esac
    grep -q LICENSE <<<"$listing"
    grep -q THIRD-PARTY-NOTICES.txt <<<"$listing"
    grep -Eq '(^|/)(manager|kubectl-externalroute(\.exe)?)( |$)' <<<"$listing"
    [[ $archive != */kubectl-externalroute_* ]] || grep -q kubectl_complete-externalroute <<<"$listing"
    count=$((count + 1))
  done
  [[ $count -eq 7 ]]
}

plugin_works() {
  tar -xzf "dist/release/kubectl-externalroute_${version#v}_$(go env GOOS)_$(go env GOARCH).tar.gz" -C "$work" kubectl-externalroute kubectl_complete-externalroute
  "$work/kubectl-externalroute" render -n demo -f config/samples/smallest.yaml | grep -q '^kind: VirtualService'
  PATH=$work:$PATH "$work/kubectl_complete-externalroute" rend | grep -q '^render'
}

checksums_right() (
  cd dist
  cp install.yaml crd-schemas.tar.gz THIRD-PARTY-NOTICES.txt release/ # as they lie together on the release's page
  cd release
  sha256sum --check --strict checksums.txt
  [[ $(wc -l <checksums.txt) -ge 18 ]]
)

krew_right() {
  go run ./hack/release/krew dist/release/krew/externalroute.yaml dist/release
  [[ $(grep -c 'sha256: ' dist/release/krew/externalroute.yaml) -eq 5 ]]
}

installer_right() {
  grep -q "image: ghcr.io/externalroute/externalroute:${version#v}@$digest" dist/install.yaml
  [[ $(grep -c ' image: ' dist/install.yaml) -eq 1 ]]
  grep -q '^kind: CustomResourceDefinition' dist/install.yaml
}

schemas_judge() {
  mkdir "$work/schemas"
  tar -xzf dist/crd-schemas.tar.gz -C "$work/schemas"
  local location="$work/schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
  kubeconform -strict -summary -skip ConfigMap -schema-location "$location" config/samples/[!k]*.yaml # not kustomization.yaml
  if sed 's/  hosts:/  hots:/' config/samples/smallest.yaml | kubeconform -strict -schema-location "$location"; then
    echo "a mistake was passed"
    return 1
  fi
}

git bundle create -q "$work/commits" HEAD --tags # a clone of the checkout itself needs it to be the user's own
start_registry
choose_base
release one
release another
rm -rf dist
cp -r "$work/one/dist" dist
digest=$(grep -o 'sha256:[0-9a-f]*$' dist/image.txt)
image=$registry/one@$digest

check "main.version is stamped into the manager" stamped manager
check "main.version is stamped into the plugin" stamped kubectl-externalroute
check "two builds, in two folders, are the same byte by byte: archives, bills of materials, schemas, install.yaml, image" reproducible
check "the image for linux/amd64: user, entry point, labels, texts, revision" image_holds linux/amd64
check "the image for linux/arm64: the same" image_holds linux/arm64
check "the image has a bill of materials in the registry" crane manifest "$registry/one:${digest/:/-}.sbom"
check "each of the seven binaries has a bill of materials that names every module in it" sboms_complete
check "each archive holds its binary, the licence, the third parties' notices and the plugin's completion" archives_hold
check "the plugin out of its archive renders a sample and is completed" plugin_works
check "checksums.txt is right, install.yaml and schemas included" checksums_right
check "krew's index accepts the manifest, and the archives are as it says" krew_right
check "install.yaml names the image by its digest" installer_right
check "the JSON schemas pass every sample and refuse a mistake" schemas_judge
if [[ -d charts/externalroute ]]; then
  check "the chart is packaged" test -s "dist/externalroute-${version#v}.tgz"
else
  unchecked+=("the chart: charts/externalroute does not exist")
fi
unchecked+=("signatures (cosign without keys needs GitHub's identity), provenance, the push to a registry and the release on GitHub")

[[ -z "$(git status --porcelain)" ]] || echo "note: uncommitted changes were not part of it"
printf 'not checked: %s\n' "${unchecked[@]}"
echo "release-dry-run $version: $passed passed, 0 failed, ${#unchecked[@]} skipped, after $SECONDS s; see dist/"
