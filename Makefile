# Anchorhold. `make demo` runs the demo; `make test` tests it; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
CACHE    ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/anchorhold
PEERS    ?= $(CACHE)/peers
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# Functions begin at multiples of 16 bytes instead of 32: the agent is 0.1 MiB smaller, and no slower.
# What waits more than it computes is not inlined: 0.35 MiB less (packaging/release/gcflags).
GOFLAGS_ := -trimpath -buildvcs=false $(shell sed 's/^/-gcflags=/' packaging/release/gcflags) -ldflags "-s -w -buildid= -funcalign=16 -X main.version=$(VERSION)"
BINARIES := ./agent/cmd/anchorhold ./agent/cmd/anchorhold-agent ./agent/cmd/anchorhold-worker ./agent/cmd/anchorhold-verify ./keybroker/cmd/anchorhold-broker ./keybroker/cmd/anchorhold-aggregator ./image/cmd/anchorhold-measure ./image/cmd/anchorhold-image ./image/cmd/anchorhold-initrd
DEMOBIN  := .cache/demo-bin
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The race detector needs a C compiler; without one the tests run without it and say so.
RACE     := $(if $(shell command -v gcc 2>/dev/null),-race)

.PHONY: help build demo-build demo fed-demo flower-demo proof-demo by-hand boot-test exposure-test image image-check image-test model models peers test test-all steady check model-check docs evidence-table fuzz bench bench-release bench-evidence bench-fed bench-zk bench-beside bench-peer bench-serve bench-exhaust release packages clean

help: ## list the targets
	@awk -F':.*## ' '/^##@ /{printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

##@ Build and try

build: ## build the release binaries into bin/ (CGO off, no software TEE)
	@mkdir -p bin
	@CGO_ENABLED=0 go build $(GOFLAGS_) -tags release,nethttpomithttp2 -o bin/ $(BINARIES)
	@ls -l bin | awk 'NR>1{printf "  bin/%-22s %5.1f MiB\n", $$9, $$5/1048576}'

demo-build:
	@mkdir -p $(DEMOBIN)
	@echo "building the release binaries and the demo's (with the software TEE) ..."
	@$(MAKE) --no-print-directory build
	@go build $(GOFLAGS_) -tags softtee -o $(DEMOBIN)/ $(BINARIES)
	@go build -trimpath -buildvcs=false -o $(DEMOBIN)/ ./packaging/demo

demo: demo-build ## seal, attest, release, answer: private inference on a real model (MODEL=gemma, qwen or file.gguf, KEEP=1, KIND=tdx, tdx-v5, vtpm, azure or azure-tdx for another emulated guest)
	@$(DEMOBIN)/demo -bin $(DEMOBIN) -cache "$(CACHE)" $(if $(MODEL),-model "$(MODEL)") $(if $(KIND),-kind "$(KIND)") $(if $(KEEP),-keep)

fed-demo: demo-build ## a federated round trip: eight participants, aggregator, decrypting guest, refusals (installs Python packages once, 600 MB)
	@.ci/peers-fed "$(PEERS)"
	@$(DEMOBIN)/demo -bin $(DEMOBIN) -federated "$(PEERS)/fed/bin/python"

flower-demo: demo-build ## flwr run on top of rounds, with both of Flower's APIs, and a search of what reached its server (packages as for fed-demo)
	@.ci/peers-fed "$(PEERS)"
	@.ci/python-package "$(PEERS)" .cache/wheels --build-only
	@$(DEMOBIN)/demo -bin $(DEMOBIN) -cache "$(CACHE)" -flower "$(PEERS)" -wheels .cache/wheels

proof-demo: demo-build ## a real classifier: answers at once, proofs later, verified by anybody (installs Python packages once, 500 MB; CLASSIFIER=DIRECTORY/NAME for files of your own)
	@$(if $(CLASSIFIER),,PEERS_TORCH=0 .ci/peers-zk "$(PEERS)")
	@$(DEMOBIN)/demo -bin $(DEMOBIN) $(if $(CLASSIFIER),-proofs "$(dir $(CLASSIFIER))" -classifier "$(notdir $(CLASSIFIER))",-proofs "$(PEERS)/zk/classifiers")

##@ Test

test: ## every test that needs Go and nothing else: no peers, no models, no downloads but modules (COVER=file: the profile that .ci/coverage judges)
	@set -o pipefail; $(if $(COVER),{ \
	  set=$$(go list $$(.ci/coverage --set)) && \
	  go test -json -coverprofile "$(COVER)" -coverpkg "$$(.ci/coverage --count)" $$set && \
	  go test -json $$(go list ./... | grep -vxF "$$set"); },go test -json ./...) | go run ./packaging/testreport

test-all: peers models ## every test there is: with peers and models, shuffled, with the race detector where a C compiler is present
	@$(if $(RACE),,echo "no C compiler: tests run without the race detector";)
	@set -o pipefail; CGO_ENABLED=$(if $(RACE),1,0) ANCHORHOLD_TEST_ALL=1 ANCHORHOLD_PEERS="$(PEERS)" go test -vet=off -json $(RACE) -shuffle=on -timeout 20m ./... | go run ./packaging/testreport -expect .ci/expected-skips
	@$(if $(RACE),ANCHORHOLD_PEERS="$(PEERS)" .ci/arithmetic)
	@echo "the NEON kernels:"
	@.ci/neon
	@$(MAKE) --no-print-directory bench-exhaust
	@echo "the Python package:"
	@.ci/python-package "$(PEERS)" .cache/wheels

peers: ## install the foreign peers that tests talk to (OpenSSL 3.5, OpenAI's client, dcap-qvl, PyTorch) into the cache, once: some gigabytes
	@.ci/peers "$(PEERS)"
	@.ci/peers-fed "$(PEERS)"
	@.ci/peers-zk "$(PEERS)"

model: ## fetch the demo's model into the cache, once: 98 MB (MODEL=gemma: 253 MB, MODEL=qwen: 1.1 GB, MODEL=minilm: embeddings, 46 MB)
	@$(if $(filter minilm,$(MODEL)),.ci/minilm "$(PEERS)/minilm",go run ./packaging/demo -cache "$(CACHE)" -fetch $(if $(MODEL),-model "$(MODEL)"))

models: ## fetch every model that tests use into the cache, once: 1.5 GB
	@for model in smollm2 gemma qwen; do go run ./packaging/demo -cache "$(CACHE)" -fetch -model $$model || exit 1; done
	@.ci/minilm "$(PEERS)/minilm"

by-hand: ## run docs/by-hand.md word for word, on the last commit
	@.ci/by-hand

boot-test: demo-build ## boot a real Debian 13 with the units installed, and check what only that shows (root, mmdebstrap; ONLY=regexp, DEADLINE=40m, KEEP=1)
	@PEERS_TORCH=0 .ci/peers-zk "$(PEERS)"
	@go build -trimpath -o $(DEMOBIN)/ ./packaging/boottest
	@trees=$$(.ci/boot-trees "$(CACHE)/boot") && flock -s "$$trees/lock" $(DEMOBIN)/boottest -trees "$$trees" -bin $(DEMOBIN) -classifiers "$(PEERS)/zk/classifiers" $(if $(ONLY),-only '$(ONLY)') $(if $(DEADLINE),-deadline $(DEADLINE)) $(if $(KEEP),-keep)

exposure-test: demo-build ## audit where plaintext is: boot a guest, use secrets of the run in it, and search disk, RAM, network and processes at each moment (root, mmdebstrap; JSON=file, DEADLINE=40m, KERNEL=arguments, KEEP=1)
	@go build -trimpath -o $(DEMOBIN)/ ./packaging/boottest
	@trees=$$(.ci/boot-trees "$(CACHE)/boot") && flock -s "$$trees/lock" $(DEMOBIN)/boottest -exposure -trees "$$trees" -bin $(DEMOBIN) $(if $(JSON),-json "$(JSON)") $(if $(KERNEL),-kernel-arguments '$(KERNEL)') $(if $(DEADLINE),-deadline $(DEADLINE)) $(if $(KEEP),-keep)

image: build ## build a guest image into image-out/ (root, mmdebstrap; NAME=web-7, FILES=directory of what is added below /, DEBS="a.deb b.deb")
	@.ci/image "$(CACHE)/boot" build "$(or $(NAME),guest)" "$(FILES)" image-out $(DEBS)

image-check: build ## build the image twice, in two directories and the second time without root, and compare byte for byte (root, mmdebstrap)
	@.ci/image "$(CACHE)/boot" check

image-test: build ## measure the image, boot it with the broker outside and its state on an encrypted volume, and see every change refused (root, mmdebstrap; ONLY=regexp, LANES=1, PATIENCE=10m, KEEP=1)
	@PEERS_TORCH=0 .ci/peers-zk "$(PEERS)"
	@go build -trimpath -o .cache/imagetest ./packaging/imagetest
	@trees=$$(.ci/boot-trees "$(CACHE)/boot") && flock -s "$$trees/lock" .cache/imagetest -trees "$$trees" -classifiers "$(PEERS)/zk/classifiers" $(if $(ONLY),-only '$(ONLY)') $(if $(LANES),-lanes $(LANES)) $(if $(PATIENCE),-patience $(PATIENCE)) $(if $(KEEP),-keep)

steady: ## run the tests that use randomness, time or processes many times beside a busy processor (RUNS=20, PACKAGES=./agent/jobs)
	@.ci/steady $(or $(RUNS),20) $(PACKAGES)

##@ Check

check: ## formatting, vet, staticcheck, coverage floors, cross-build, binary size
	@.ci/check

model-check: ## check the models of leases, epochs, rounds and restarts with Spin, and that it finds every fault put back (UPDATE=1: write the trails)
	@.ci/model-check

docs: ## update the table of packages in docs/architecture.md, and those of keys and refused files in docs/models.md
	UPDATE=1 go test ./packaging/layout -run TestArchitecturePage
	UPDATE=1 go test ./runtime/servable ./runtime/sealer ./agent/cli/seal -run 'TestDocumentListsEveryKey|TestEveryPartIsHonouredOrRefusedByName|TestEveryRefusalOfClassifiersIsShown'

evidence-table: ## judge every real sample of evidence, beside other verifiers, and write docs/evidence-samples.md (needs the samples)
	@.ci/peers "$(PEERS)"
	UPDATE=1 ANCHORHOLD_TEST_ALL=1 ANCHORHOLD_PEERS="$(PEERS)" go test -count 1 -v -run 'TestEverySample$$' ./agent/cli/evidencejudge

fuzz: ## ten seconds of every fuzz target (FUZZTIME=10s)
	@.ci/fuzz $(or $(FUZZTIME),10s)

##@ Measure

bench: ## the Go benchmarks
	go test -run '^$$' -bench . -benchtime 1s ./...

bench-release: ## the broker's CPU for a release, beside an earlier commit in one run (BASE=commit)
	@.ci/bench-release $(or $(BASE),5703667)

bench-evidence: ## judging evidence of every kind, beside go-sev-guest, go-tdx-guest and dcap-qvl, in one run
	@.ci/bench-evidence "$(PEERS)"

bench-fed: peers ## encrypted sums beside SEAL, TenSEAL, OpenFHE (where it loads) and Lattigo, in one run
	@.ci/bench-fed "$(CACHE)"

bench-zk: ## proofs of inference and of bounds beside EZKL, in one run (the first makes keys for ten minutes)
	@.ci/bench-zk "$(CACHE)"

bench-beside: demo-build model ## inference with and without a proof under way, in one run (the first makes keys for two minutes)
	@PEERS_TORCH=0 .ci/peers-zk "$(PEERS)"
	@$(DEMOBIN)/demo -bin $(DEMOBIN) -cache "$(CACHE)" -beside "$(PEERS)/zk/classifiers"

bench-peer: model ## our inference beside llama.cpp and ik_llama.cpp, with all figures, in one run of 14 minutes (JSON=file, MINUTES=, PARTS=smollm2,qwen,own,cgroups)
	@go run ./packaging/demo -cache "$(CACHE)" -fetch -model qwen
	@JSON="$(JSON)" MINUTES="$(or $(MINUTES),14)" PARTS="$(PARTS)" .ci/bench-peer "$(CACHE)"

bench-serve: model ## streams of a whole agent at 1, 4 and 16 clients, through renewals of its lease: tokens/s, time to first text, p50 and p99 between pieces; and `anchorhold score` at 16 (JSON=file, ANCHORHOLD_MODEL=file.gguf)
	@ANCHORHOLD_BENCH_SERVE=1 ANCHORHOLD_BENCH_SERVE_JSON="$(abspath $(JSON))" CGO_ENABLED=0 go test -count 1 -v -timeout 15m -run '^TestServeFigures$$' ./agent

bench-exhaust: model ## attack each of the five listeners, and an agent at its exact memory limit, with figures (test-all does so too)
	@.ci/exhaust

##@ Release

release: ## build what a release holds, packages included, into dist/, twice and byte for byte the same, and sign it (VERSION=, RELEASE_KEY= and RELEASE_CREDENTIAL=)
	@rm -rf dist
	@go run ./packaging/release -out dist $(if $(filter command environment,$(firstword $(origin VERSION))),-version "$(VERSION)") $(if $(RELEASE_KEY),-key "$(RELEASE_KEY)") $(if $(RELEASE_CREDENTIAL),-credential "$(RELEASE_CREDENTIAL)")

packages: ## check the deb and rpm packages of dist/, which make release makes: contents, lintian, and their life in a Debian 13 (root, mmdebstrap, lintian)
	@ls dist/*.deb >/dev/null 2>&1 || $(MAKE) --no-print-directory release
	@trees=$$(.ci/boot-trees "$(CACHE)/boot") && flock -s "$$trees/lock" env ANCHORHOLD_TEST_ALL=1 ANCHORHOLD_DEBIAN="$$trees/guest.tar" ANCHORHOLD_PACKAGES="$(CURDIR)/dist" go test -count 1 -v -timeout 20m -run 'Life|Release' ./packaging/packages

##@ Clean up

clean: ## remove what was built (not the cache of models and peers)
	rm -rf bin dist image-out .cache
