# Framewright. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
DIST := $(CURDIR)/dist
INSTALL := e2e/tools/install.sh
CUDA_CARGO := CARGO=$(CARGO) e2e/tools/cuda/cargo.sh
# They start clusters, and no target of cargo's means them unless it names them.
NODE_TESTS := --test api --test program --test harness --test demo --test product
# Of the whole workspace, so that what other programs are made of is not built again with other features.
CUDA_WORKER := --release --workspace --features framewright-worker/cuda
export FRAMEWRIGHT_DIST := $(DIST)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

ifneq ($(filter demo,$(MAKECMDGOALS)),)
ifneq ($(filter-out existing,$(CLUSTER)),)
$(error CLUSTER is $(CLUSTER): say existing, for the current kubeconfig context, or nothing, for a cluster that the demo starts itself)
else ifeq ($(CLUSTER)$(REGISTRY),existing)
$(error CLUSTER=existing needs REGISTRY: where the images are pushed and the nodes pull them, such as REGISTRY=registry.example.com)
endif
endif

demo: expect dist ## Run the main job on a cluster that it starts itself (CLUSTER=existing REGISTRY=…: on yours)
	$(RELEASE)/framewright-e2e demo --dist $(DIST) $(if $(filter existing,$(CLUSTER)),--existing "$(REGISTRY)")

test: lint dist ## Test everything
	@echo "test: crates (a few minutes)"
	$(CARGO) test --release --workspace
	@echo "test: API, chart, cluster and product on a real node (some minutes)"
	$(CARGO) test --release --workspace $(NODE_TESTS) -- --test-threads=1

bench: dist ## Print what the control plane costs, as ratios (JOBS=20: in a minute; TORCH=1: beside PyTorch, too; WORKERS=1000: memory and takeover instead)
	$(RELEASE)/framewright-e2e bench --dist $(DIST) $(if $(JOBS),--jobs $(JOBS)) $(if $(TORCH),--torch) $(if $(WORKERS),--workers $(WORKERS))

lint: packages ## Check format, lints, licences and generated files
	$(CARGO) fmt --all --check
	deny=$$($(INSTALL) deny | sed -n 's/^cargo-deny=//p') && $$deny check licenses bans sources
	$(CARGO) clippy --release --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --release --workspace $(NODE_TESTS) -- --deny warnings
	helm=$$($(INSTALL) helm | sed -n 's/^helm=//p') && HELM=$$helm manifests/generate.sh --check

dist: programs ## Put the programs of the images into dist/
	@mkdir -p $(DIST)
	@for program in framewright-operator framewright-worker kubectl-framewright; do \
		[ $(DIST)/$$program -nt $(RELEASE)/$$program ] || strip --strip-debug -o $(DIST)/$$program $(RELEASE)/$$program; done
	@paths=$$($(INSTALL) ffmpeg | sed -n 's/^ff[a-z]*=//p') && install $$paths $(DIST)/

programs: ## Build all programs
	@echo "build: the programs (about 12 minutes the first time on two cores)"
	$(CARGO) build --release --workspace

images: dist ## Build the images of operator and worker
	$(RELEASE)/framewright-e2e images $(DIST)

# What CUDA is pinned for.
ifeq ($(shell uname -m),x86_64)
test: test-cuda
endif

test-cuda: ## Test what of the worker for NVIDIA GPUs needs no GPU, as test does on x86-64
	@echo "test: the worker for GPUs, on a machine without one (some minutes the first time)"
	$(CUDA_CARGO) clippy $(CUDA_WORKER) --all-targets -- --deny warnings
	$(CUDA_CARGO) test $(CUDA_WORKER) --test cuda

worker-cuda: ## Build the worker for NVIDIA GPUs into dist/cuda/, and check it; needs no GPU
	@echo "worker-cuda: about 4 minutes the first time on two cores, after the other programs are built"
	@began=$$SECONDS; $(CUDA_CARGO) build $(CUDA_WORKER) --bin framewright-worker && echo "worker-cuda: built in $$((SECONDS - began)) s"
	@mkdir -p $(DIST)/cuda/lib $(DIST)/cuda/none
	@strip --strip-debug -o $(DIST)/cuda/framewright-worker $(RELEASE)/framewright-worker
	@cuda=$$($(INSTALL) cuda | sed -n 's/^cuda=//p') \
		&& for library in cublas cublasLt curand; do cp --update --no-dereference --remove-destination $$cuda/lib/lib$$library.so.* $(DIST)/cuda/lib/; done \
		&& cp $$cuda/nvidia_cublas-*.dist-info/licenses/License.txt $(DIST)/cuda/lib/LICENSE
	@began=$$SECONDS; $(CUDA_CARGO) test $(CUDA_WORKER) --test cuda && echo "worker-cuda: checked in $$((SECONDS - began)) s; its kernels have not run, which takes a GPU: make test-gpu"
	@du -shL $(DIST)/cuda/framewright-worker $(DIST)/cuda/lib

image-cuda: dist worker-cuda ## Build the image of the worker for NVIDIA GPUs
	$(RELEASE)/framewright-e2e images --cuda $(DIST)

test-gpu: ## Compare an NVIDIA GPU with the CPU, and try to break it; fails on a machine without one
	$(CUDA_CARGO) test $(CUDA_WORKER) --no-fail-fast --test gpu --test gpu_lost -- --test-threads=1 --nocapture

bench-gpu: packages ## Measure the networks on an NVIDIA GPU, beside PyTorch if python3 has it
	$(CUDA_CARGO) bench --workspace --features framewright-worker/cuda --bench gpu

generate: ## Write what is derived: CRDs, chart copies, install.yaml, example digests
	UPDATE=1 $(CARGO) test --release --package framewright-crds --test yaml
	helm=$$($(INSTALL) helm | sed -n 's/^helm=//p') && HELM=$$helm manifests/generate.sh

packages: ## Install the Debian packages that tests use beside the cluster's own
	@for package in ffmpeg python3; do dpkg-query -W -f='$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed \
		|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package; }; done

expect:
	@echo "demo: about a minute with everything built; the first time, programs and tools are built, up to 30 minutes on two cores"

down: ## Take down every cluster that demo and tests have started
	@state=$${XDG_STATE_HOME:-$$HOME/.local/state}/framewright; \
	[ -n "$$(find "$$state" -mindepth 1 -maxdepth 1 -type d 2>/dev/null)" ] || exit 0; \
	[ -x $(RELEASE)/framewright-e2e ] || { echo "build: the program that knows how, since clusters are left in $$state"; \
		$(CARGO) build --release --workspace --bin framewright-e2e; }; \
	$(RELEASE)/framewright-e2e down --all

.PHONY: help expect demo test bench lint dist programs images test-cuda worker-cuda image-cuda test-gpu bench-gpu generate packages down
