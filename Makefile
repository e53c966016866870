SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# What the targets below can be told: `make deploy IMG=registry.example.com/externalroute:v1`.
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
IMG       ?= externalroute:$(VERSION)
PLATFORMS ?= linux/amd64,linux/arm64
DOCKER    ?= docker
KUBECTL   ?= kubectl
TESTFLAGS ?=
ARGS      ?=
RANDOM_SEEDS ?= 300000

# Go stamps the commit into programs, and builds none where git does not answer, as in a checkout that belongs to another user.
ifneq ($(shell git rev-parse HEAD >/dev/null 2>&1 && echo yes),yes)
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
endif

TOOL      := go tool -modfile=hack/tools/go.mod
PATIENTLY := hack/tools/patiently.sh
LINTER    := bin/golangci-lint
MODULES   := $(dir $(shell find . -name go.mod -not -path "./bin/*"))
SCRIPTS   := .ci/run $(shell find hack test -name '*.sh')
GENERATED := api/v1alpha1/zz_generated.deepcopy.go api/v1alpha1/applyconfiguration config/crd/bases config/rbac/role.yaml docs/api-reference.md docs/commands \
             charts/externalroute/files charts/externalroute/README.md

##@ General

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "; printf "make TARGET [VARIABLE=VALUE ...]\n"} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show the main job on a real control plane; KEEP=1 leaves it running
	@mkdir -p bin; hack/controlplane/build.sh >/dev/null
	@$(PATIENTLY) "compiling the operator and the demo" go build -o bin/ ./cmd/manager ./hack/demo
	@exec bin/demo $(if $(KEEP),-keep)

.PHONY: demo-mesh
demo-mesh: ## Show an app's requests through a real istiod and Envoy (Linux; no root where user namespaces exist)
	@mkdir -p bin; $(PATIENTLY) "compiling the demo" go build -C test/e2e -o "$(CURDIR)/bin/demo-mesh" ./demo
	@exec bin/demo-mesh

##@ Development

.PHONY: generate
generate: ## Regenerate deepcopy, apply configurations, CRD, RBAC, the API reference, the pages of the commands and the chart's copies
	$(TOOL) controller-gen object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt \
	  crd rbac:roleName=externalroute-manager paths=./api/... paths=./internal/cluster/... paths=./internal/controller/... \
	  output:crd:dir=config/crd/bases output:rbac:dir=config/rbac
	$(TOOL) crd-ref-docs --source-path=api --config=hack/tools/api-reference/config.yaml --templates-dir=hack/tools/api-reference --renderer=markdown --output-path=docs/api-reference.md --log-level=WARN
	go run ./hack/apirules config/crd/bases/*.yaml >>docs/api-reference.md
	go run ./hack/commands docs/commands
	hack/chart/generate.sh

.PHONY: fmt
fmt: $(LINTER) ## Format the Go code
	$(LINTER) fmt ./...

.PHONY: verify
verify: ## Check that what is generated is up to date, modules are tidy, and code and scripts are sound
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; \
	tar -cf - $(GENERATED) | tar -xf - -C "$$before"; \
	$(PATIENTLY) generating $(MAKE) --no-print-directory generate; \
	for path in $(GENERATED); do diff -ruN "$$before/$$path" "$$path" || stale=yes; done; \
	if [[ -n "$${stale:-}" ]]; then echo "generated files were not up to date: commit what make generate wrote" >&2; exit 1; fi
	@for module in $(MODULES); do echo "tidy? $$module"; (cd "$$module" && go mod tidy -diff); done
	$(PATIENTLY) vetting go vet ./...
	@if command -v shellcheck >/dev/null; then echo "shellcheck $(SCRIPTS)"; shellcheck $(SCRIPTS); else echo "shellcheck is not installed: scripts were not checked"; fi
	$(PATIENTLY) "building actionlint" go build -C hack/tools/release/actionlint -trimpath -o "$(CURDIR)/bin/actionlint" github.com/rhysd/actionlint/cmd/actionlint
	bin/actionlint .github/workflows/*

.PHONY: lint
lint: $(LINTER) ## Lint the Go code, the API by the rules of Kubernetes, and the words of all files by docs/glossary.md
	go run ./hack/words
	$(LINTER) config verify
	$(PATIENTLY) linting $(LINTER) run ./...

.PHONY: controlplane
controlplane: ## Find, download or build kube-apiserver, etcd, kubectl and a few controllers; print their folder as the last line
	@hack/controlplane/build.sh

.PHONY: test
test: ## Run the tests of this module, on a real API server where they need one; TESTFLAGS are passed on
	@assets=$$(hack/controlplane/build.sh | tail -n 1); \
	for module in . hack/controlplane; do \
	  echo "KUBEBUILDER_ASSETS=$$assets go test -C $$module -timeout 20m $(TESTFLAGS) ./..."; \
	  KUBEBUILDER_ASSETS=$$assets $(PATIENTLY) testing go test -C $$module -timeout 20m $(TESTFLAGS) ./...; \
	done

.PHONY: flakes
flakes: ## Run the tests ten times on a busy machine, twice of them with the race detector (hours); ARGS are its flags
	@hack/flakes.sh $(ARGS)

.PHONY: mesh
mesh: ## Run what the operator generates through Istio's own validators, analyzers and simulation
	$(PATIENTLY) "building Istio and testing (7 minutes on a cold cache)" go test -C test/mesh -count=1 -timeout 40m $(TESTFLAGS) ./...

.PHONY: e2e
e2e: ## Send real requests through a real istiod and Envoy (Linux; no root where user namespaces exist)
	$(PATIENTLY) testing go test -C test/e2e ./... -count=1 -v -timeout 60m

.PHONY: chart-test
chart-test: ## Lint, unit-test and validate the Helm chart, and install it into a real control plane
	hack/chart/test.sh

.PHONY: gitops
gitops: ## Run the operator beside Flux's own controllers and Argo CD's engine: commits, drift, and no write at rest
	@$(PATIENTLY) "building Flux (5 minutes on a cold cache)" hack/flux/build.sh >/dev/null
	@assets=$$(hack/controlplane/build.sh | tail -n 1); \
	KUBEBUILDER_ASSETS=$$assets $(PATIENTLY) testing go test -C test/gitops -count=1 -timeout 20m $(TESTFLAGS) ./...

.PHONY: observability-test
observability-test: ## Test alerts, dashboard, metrics and logs with a real Prometheus
	hack/observability/test.sh

.PHONY: chaos
chaos: ## Try faults on a real control plane, and audit what is left; ARGS are its flags
	@hack/controlplane/build.sh >/dev/null
	$(PATIENTLY) "testing the auditor" go test -C test/chaos -count=1 -timeout 40m ./...
	@mkdir -p bin; go build -C test/chaos -o "$(CURDIR)/bin/chaos" .; exec bin/chaos $(ARGS)

.PHONY: random
random: ## Put hundreds of thousands of random routes through Istio's validators, and thousands through a real Envoy (hours, as root)
	RANDOM_SEEDS=$(RANDOM_SEEDS) go test -C test/mesh -count=1 -v -timeout 24h -run TestRandomRoutes .
	RIVAL_PAIRS=2000 go test -C test/mesh -count=1 -v -timeout 6h -run TestRivals .
	RANDOM_SEEDS=10000 go test -C test/e2e -count=1 -v -timeout 6h -run TestRandomRoutes .
	RANDOM_SEEDS=1000 go test -C test/e2e -count=1 -v -timeout 6h -run TestRandomRegexes .
	for target in FuzzURL FuzzHost FuzzBasePath FuzzRegex; do go test ./internal/translate -run '^$$' -fuzz "^$$target\$$" -fuzztime 3m; done

.PHONY: bench
bench: ## Measure what routes cost on a real control plane, against a bare client; ARGS are its flags
	@hack/controlplane/build.sh >/dev/null; mkdir -p bin; go build -o bin/bench ./test/bench; exec bin/bench $(ARGS)

.PHONY: bench-compare
bench-compare: ## Compare the Go benchmarks with those of the main branch
	hack/bench/compare.sh $(ARGS)

.PHONY: cold
cold: ## Make the targets of ARGS (demo and test, if unset) as on a machine that has never seen the project, and print the seconds of each
	hack/cold.sh $(ARGS)

##@ Build

.PHONY: build
build: ## Build the manager and the kubectl plugin into bin/
	$(PATIENTLY) building env CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

.PHONY: run
run: ## Run the manager on this machine against the current kubeconfig; ARGS are its flags
	go run ./cmd/manager $(ARGS)

.PHONY: docker-build
docker-build: ## Build the image IMG for this machine
	$(DOCKER) build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -t $(IMG) .

.PHONY: docker-buildx
docker-buildx: ## Build the image IMG for PLATFORMS and push it
	$(DOCKER) buildx build --platform $(PLATFORMS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --push -t $(IMG) .

.PHONY: build-installer
build-installer: ## Write everything that a cluster needs to dist/install.yaml, with the image IMG
	@mkdir -p dist
	@$(call manifests,config/default) >dist/install.yaml
	@echo dist/install.yaml

.PHONY: licenses
licenses: ## Check that every module in the shipped binaries has an allowed licence
	$(PATIENTLY) testing go test -C hack/licenses ./...
	go run -C hack/licenses . -C ../.. check

.PHONY: release-dry-run
release-dry-run: ## Make a whole release of the last commit twice, publish nothing, and look at it
	$(PATIENTLY) "making releases (20 minutes on a cold cache)" hack/release/dry-run.sh

##@ Deployment, to the cluster of the current kubeconfig

.PHONY: install
install: ## Install the CRD
	$(TOOL) kustomize build config/crd | $(KUBECTL) apply --server-side -f -

.PHONY: uninstall
uninstall: ## Remove the CRD, and with it every ExternalRoute and what was generated for it
	$(TOOL) kustomize build config/crd | $(KUBECTL) delete --ignore-not-found -f -

.PHONY: deploy
deploy: ## Install the CRD, the rights and the manager, with the image IMG
	$(call manifests,config/default) | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: ## Remove all that deploy installed, the CRD and every ExternalRoute too
	$(call manifests,config/default) | $(KUBECTL) delete --ignore-not-found -f -

# The image is put in on the way, so that no target edits a file of the repository.
manifests = $(TOOL) kustomize build $(1) | sed 's|image: controller:latest|image: $(IMG)|'

$(LINTER): hack/tools/lint/go.mod hack/tools/lint/go.sum
	@mkdir -p bin
	$(PATIENTLY) "building golangci-lint (2 minutes on a cold cache)" \
	  go build -C hack/tools/lint -trimpath -o ../../../$@ sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter
	@touch $@
