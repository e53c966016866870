#!/usr/bin/env bash
# release.sh VERSION [FLAG OF GORELEASER...]: makes a release of the commit that is checked out. The image goes to KO_DOCKER_REPO, the rest into dist/ and,
# by goreleaser, to GitHub. IMAGE is the name by which clusters will pull the image, where that is another one.
set -euo pipefail
cd "$(dirname "$0")/../.."

. hack/release/git.sh
[[ $(uname) == Linux ]] || { echo "Releases are made on Linux only: GNU tar and sha256sum make archives the same everywhere." >&2; exit 1; }
git rev-parse HEAD >/dev/null 2>&1 || {
  echo "A release is made of a commit, and this is not a Git repository, such as the source of an archive." >&2
  exit 1
}

export VERSION=${1:?usage: release.sh VERSION [FLAG OF GORELEASER...]}
shift
export KO_DOCKER_REPO=${KO_DOCKER_REPO:-ghcr.io/externalroute/externalroute}
image=${IMAGE:-$KO_DOCKER_REPO}
PATH=$(hack/release/tools.sh | tail -n 1):$PATH

if [[ -n "$(git status --porcelain)" ]]; then
  git status --short >&2
  echo "a release is made of a commit, and these are not in it" >&2
  exit 1
fi
# Files in images and archives carry the time of the commit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH KO_DATA_DATE_EPOCH=$SOURCE_DATE_EPOCH

rm -rf dist
mkdir -p dist cmd/manager/kodata
licenses check
licenses notices dist/THIRD-PARTY-NOTICES.txt
cp LICENSE dist/THIRD-PARTY-NOTICES.txt cmd/manager/kodata/ # ko puts them into the image

ko build --bare --tags "${VERSION#v}" --image-user 65532:65532 \
  --image-label org.opencontainers.image.title=externalroute \
  --image-label org.opencontainers.image.description="One manifest for an external host in an Istio mesh" \
  --image-label org.opencontainers.image.source=https://github.com/externalroute/externalroute \
  --image-label org.opencontainers.image.licenses=Apache-2.0 \
  --image-label org.opencontainers.image.version="${VERSION#v}" \
  --image-label org.opencontainers.image.revision="$(git rev-parse HEAD)" \
  ./cmd/manager >dist/image.txt
digest=$(grep -o 'sha256:[0-9a-f]*$' dist/image.txt)

make --no-print-directory build-installer IMG="$image:${VERSION#v}@$digest"
go run ./hack/release/crdschemas dist/crd-schemas config/crd/bases/*.yaml
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - -C dist/crd-schemas . | gzip -n >dist/crd-schemas.tar.gz
if [[ -d charts/externalroute ]]; then
  helm package charts/externalroute --version "${VERSION#v}" --app-version "${VERSION#v}" --destination dist
fi

goreleaser release --clean "$@"
