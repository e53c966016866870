# syntax=docker/dockerfile:1

# The builder runs on the machine's own platform and cross-compiles: Go needs no emulation for that.
FROM --platform=$BUILDPLATFORM golang:1.26 AS builder
ENV GOMODCACHE=/cache/modules GOCACHE=/cache/build
WORKDIR /src

# The modules are a layer of their own, which only go.mod and go.sum can break.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache go mod download

COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/cache \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /manager ./cmd/manager

FROM gcr.io/distroless/static:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="externalroute" \
      org.opencontainers.image.description="One manifest for an external host in an Istio mesh" \
      org.opencontainers.image.source="https://github.com/externalroute/externalroute" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY LICENSE /LICENSE
COPY --from=builder /manager /manager
USER 65532:65532
ENTRYPOINT ["/manager"]
