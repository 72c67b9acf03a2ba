# The way in: `make` builds, `make demo` shows it at work, `make help` tells the rest.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
BUILD ?= build
PREFIX ?= /usr/local
CMAKE_ARGS ?=
CTEST_ARGS ?=

PROMPT ?= What is gravity?
prompt = '$(subst ','\'',$(PROMPT))'
# Seconds that each fuzz target runs.
FUZZ_SECONDS ?= 60
# Prompts of a storm, for each format, and the roads it goes on.
STORM_PROMPTS ?= 100
STORM_ROADS ?= avx2 avx512
# Seconds that the soak runs.
SOAK_SECONDS ?= 1200

.PHONY: build reference help setup demo test parity bench bench-generate asan tsan second-torch two-compilers fuzz fuzz-coverage fuzz-planted fuzz-corpus soak soak-http browser storm format install clean

build: setup
	@$(call compile,$(BUILD))

help:
	@echo 'make              build everything into $(BUILD)/'
	@echo 'make setup        get what is missing: packages, LibTorch, the default model'
	@echo 'make demo         ask the default model a question (PROMPT="...")'
	@echo 'make test         all tests but parity and benchmarks'
	@echo 'make parity       compare with transformers and PEFT'
	@echo 'make bench        the benchmarks'
	@echo 'make bench-generate  decode, prefill, start and memory beside transformers'
	@echo 'make asan         tests under AddressSanitizer and UBSan'
	@echo 'make tsan         tests of graph and runtime under ThreadSanitizer'
	@echo 'make second-torch   plugins built for LibTorch 2.13 on a later one'
	@echo 'make two-compilers  plugins built by clang in this host'
	@echo 'make fuzz         libFuzzer on all readers of foreign files (FUZZ_SECONDS=60 each)'
	@echo 'make fuzz-coverage  which part of the readers the committed corpora take'
	@echo 'make fuzz-planted   that the fuzzers find a bug planted in each reader'
	@echo 'make fuzz-corpus    write the committed corpora anew from what was found'
	@echo 'make storm        the real model among random neighbours, to the bit (STORM_PROMPTS=100)'
	@echo 'make soak         random serving, watched (SOAK_SECONDS=1200)'
	@echo 'make soak-http    the HTTP server under mixed load with clients that leave (SOAK_SECONDS=1200)'
	@echo 'make bench-serving  serving, beside llama.cpp with LLAMA=FOLDER of its binaries; see bench/bench.mk'
	@echo 'make bench-http   the HTTP server, beside others with LLAMA=FOLDER, VLLM=PROGRAM'
	@echo 'make browser      the chat page in a headless Chromium'
	@echo 'make reference    docs/reference anew, from what the plugins say of themselves'
	@echo 'make format       clang-format on all sources'
	@echo 'make install      to PREFIX=$(PREFIX)'
	@echo 'make clean        remove what these targets built'
	@echo
	@echo 'JOBS=$(JOBS) compilers at once; CMAKE_ARGS and CTEST_ARGS are handed on.'

# $(call compile,FOLDER[,CMAKE_ARGUMENTS][,NINJA_TARGETS]): configures once, then builds.
define compile
{ test -e $(1)/build.ninja || cmake -S . -B $(1) -G Ninja $(2) $(CMAKE_ARGS); } && \
cmake --build $(1) -j $(JOBS) $(if $(3),--target $(3))
endef

setup:
	@scripts/setup.sh

demo: build
	@echo
	@printf "Asking SmolLM2-135M on this machine's CPU: %s\n" $(prompt)
	@echo
	@$(BUILD)/bin/engine run pipelines/generate.pbtxt $(prompt)

test: build
	@scripts/ctest.sh $(BUILD) -LE 'parity|bench' $(CTEST_ARGS)

parity:
	@scripts/setup.sh parity
	@$(call compile,$(BUILD))
	@scripts/ctest.sh $(BUILD) -L parity $(CTEST_ARGS)

bench: build
	@$(call compile,$(BUILD),,hop_bench)
	@$(BUILD)/bin/hop_bench
	@$(BUILD)/bin/engine bench pipelines/generate.pbtxt $(prompt) --ablate

bench-generate: build
	@scripts/setup.sh parity
	@.deps/peers/bin/python bench/generate_vs_transformers.py $(BUILD)/bin/engine \
	 models/smollm2-135m-instruct.gguf bench/results/generate_vs_transformers.json

include bench/bench.mk

# LibTorch is not instrumented; tests/lsan.supp names what it and protobuf never free.
asan: setup
	@$(call compile,build-asan,-DENGINE_SANITIZE=address)
	@ASAN_OPTIONS=detect_leaks=1 \
	 LSAN_OPTIONS=print_suppressions=0$(if $(wildcard tests/lsan.supp),:suppressions=$(CURDIR)/tests/lsan.supp) \
	 UBSAN_OPTIONS=print_stacktrace=1 \
	 scripts/ctest.sh build-asan -LE 'parity|bench' $(CTEST_ARGS)

tsan: setup
	@$(call compile,build-tsan,-DENGINE_SANITIZE=thread -DENGINE_WITH_TORCH=OFF '-DENGINE_PARTS=abi;graph;runtime')
	@TSAN_OPTIONS=halt_on_error=1$(if $(wildcard tests/tsan.supp),:suppressions=$(CURDIR)/tests/tsan.supp) \
	 scripts/ctest.sh build-tsan -L core $(CTEST_ARGS)

# Stored plugins and today's, built for LibTorch 2.13, on a host with a later LibTorch.
second-torch: build
	@scripts/setup.sh second-torch
	@tests/replay/second_torch.sh $(BUILD) build-second-torch

# Plugins built by clang in the host that GCC built.
two-compilers: build
	@command -v clang++ >/dev/null || { echo 'run: apt-get install clang' >&2; exit 1; }
	@CC=clang CXX=clang++ tests/install/run.sh $(BUILD)

fuzz: setup
	@tests/fuzz/run.sh build-fuzz $(FUZZ_SECONDS) $(JOBS)

fuzz-coverage: setup
	@tests/fuzz/coverage.sh build-fuzz-coverage $(JOBS)

fuzz-planted: setup
	@tests/fuzz/planted.sh build-fuzz $(JOBS)

fuzz-corpus: setup
	@tests/fuzz/corpus.sh build-fuzz $(JOBS)

# The real model in a storm of at least 100 prompts, every format, on each road the machine has.
storm: build
	@for road in $(STORM_ROADS); do \
	 ENGINE_STORM_PROMPTS=$(STORM_PROMPTS) ENGINE_STORM_ROAD=$$road \
	 $(BUILD)/tests/invariance_test --gtest_filter='*RealModelTest*' || exit; done

soak: build
	@$(BUILD)/tests/soak $(SOAK_SECONDS)

soak-http: build
	@python3 tests/http/soak.py $(BUILD)/bin/engine . $(SOAK_SECONDS)

browser: build
	@scripts/ctest.sh $(BUILD) -L browser $(CTEST_ARGS)

reference: build
	@env -u ENGINE_PLUGIN_PATH $(BUILD)/bin/engine inspect --pages docs/reference

format:
	@command -v clang-format-14 >/dev/null || { echo 'run: apt-get install clang-format-14' >&2; exit 1; }
	@git ls-files '*.cc' '*.h' '*.hpp' | xargs clang-format-14 -i

install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf $(BUILD) build-asan build-tsan build-fuzz build-fuzz-coverage build-second-torch
