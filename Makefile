# Two commands for users: `make serve`, `make test`. The rest is for working on mmplane.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch comes first and pinned, so that no other package can bring another build of it. Where pip's default build of
# torch is one for CUDA and this machine has no GPU, point pip at a CPU build: make serve TORCH_OPTIONS="--index-url ..."
TORCH := torch==2.13.0
TORCH_OPTIONS ?=
SERVE_OPTIONS ?=

.PHONY: help install install-dev serve lock docs screenshots check-deploy test-pythons wheel test test-unit test-process test-sglang test-sglang-versions test-vllm test-models test-ray test-clients test-device lock-clients record-openwebui test-report fix check simulate fuzz chaos soak overload bench results results-sglang train train-smoke evaluate demo clean chaos-freeze chaos-sidecar chaos-strangers chaos-machines chaos-mirrors chaos-nodes

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/serve.stamp: pyproject.toml constraints.txt
	@echo "== 1/4 making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@tools/pip.sh $(BIN)/python "2/4 pip itself" --upgrade "pip>=25.1"
	@tools/pip.sh $(BIN)/python "3/4 $(TORCH), the largest part" $(TORCH_OPTIONS) $(TORCH)
	@tools/no-cuda-without-gpu.sh $(BIN)/python
	@tools/pip.sh $(BIN)/python "4/4 mmplane and what it needs" \
	  --constraint constraints.txt --editable '.[serve,bench,trace]' $(TORCH)
	@tools/no-cuda-without-gpu.sh $(BIN)/python
	@touch $@

$(VENV)/dev.stamp: $(VENV)/serve.stamp tools/get-speech.sh
	@tools/pip.sh $(BIN)/python "what the tests need" --constraint constraints.txt --group dev $(TORCH)
	@# examples/client.c is compiled by tests.
	@command -v cc > /dev/null || apt-get install -y gcc libc6-dev
	@# A reference for tests alone, on no environment's path: beside a CPU torch only half of it loads.
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/reference torchvision==0.28.0
	@tools/get-speech.sh $(VENV)/speech || echo "no real speech: what needs it will be skipped"
	@touch $@

install: $(VENV)/serve.stamp ## make .venv with the mmplane command in it

install-dev: $(VENV)/dev.stamp ## the same with the tools for working on mmplane

serve: install ## serve the built-in model on 127.0.0.1:8000 with two ranks
	exec $(BIN)/mmplane serve --model tiny --tp 2 --host 127.0.0.1 --port 8000 $(SERVE_OPTIONS)

test: ## everything that needs no foreign engine (15 minutes on two cores), and how long each part took
	@+tools/timed.sh install-dev check test-unit test-process

test-unit: install-dev ## fast tests, no processes of ours
	$(BIN)/python -m pytest tests/unit -q --timeout 120 --durations=10 -n 2 --dist loadfile

test-process: install-dev ## real servers, real clients, real failures
	$(BIN)/python -m pytest tests/process -q --timeout 240 --durations=10 -n 4 --dist loadfile --no-loadscope-reorder

# Those that CI tries, with two ranks: the rest is tried by `make test-models`.
CI_MODELS := qwen2_vl qwen2_5_vl qwen3_vl internvl llava llava_onevision pixtral mistral3 smolvlm idefics3 gemma3 qwen3_5
CI_REFUSED := paligemma mllama

test-models: install-dev ## a tiny checkpoint of each architecture, served: right or refused (QUICK=1: the usual ones with two ranks)
ifdef QUICK
	$(BIN)/python tools/models/suite.py $(CI_MODELS) --tp 2 --right
	$(BIN)/python tools/models/suite.py $(CI_REFUSED) --tp 2
else
	$(BIN)/python tools/models/suite.py --json docs/models.json
	$(BIN)/python tools/models/page.py docs/models.json > docs/models.md
endif

test-report: install-dev ## the bench's report and the status page in a headless Chromium (Debian's; installed if it is not there)
	@command -v $${MMPLANE_CHROMIUM:-chromium} > /dev/null || apt-get install -y chromium
	$(BIN)/python -m pytest tests/browser -q --timeout 120

.venv-sglang/stamp: tools/peers/sglang/install.sh tools/peers/sglang/requirements.txt pyproject.toml
	@echo "== making .venv-sglang: SGLang and its torch, 2.5 GB (some minutes)"
	tools/peers/sglang/install.sh .venv-sglang
	@# datasets is for SGLang's own load generator alone.
	.venv-sglang/bin/python -m pip install --quiet blake3 msgspec av datasets imagecodecs ml-dtypes numba simplejpeg soundfile soxr
	.venv-sglang/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

test-sglang: install-dev .venv-sglang/stamp ## the plugin under real SGLang servers
	$(BIN)/python -m pytest tests/engines/sglang -q --timeout 900

.venv-vllm/stamp: tools/peers/vllm/install.sh pyproject.toml
	@echo "== making .venv-vllm: vLLM for CPUs and its torch, 2 GB (some minutes)"
	tools/peers/vllm/install.sh .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --editable ".[media]"
	@touch $@

# FULL=1 runs the rarest tests too.
test-vllm: install-dev .venv-vllm/stamp ## the plugin under real vLLM servers (12 minutes; FULL=1: all of them)
	MMPLANE_FULL=$(FULL) $(BIN)/python -m pytest tests/engines/vllm -q --timeout 900 --durations=10

# A server in it imports torch: that, and all else that is there, comes from .venv.
.venv-ray/stamp: pyproject.toml $(VENV)/dev.stamp
	@echo "== making .venv-ray: Ray and the base package"
	$(PYTHON) -m venv .venv-ray
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$(.venv-ray/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth
	.venv-ray/bin/python -m pip install --quiet "ray[data]>=2.56" --editable .
	@touch $@

test-ray: install-dev .venv-ray/stamp ## media machines and the example for Ray Data under a real Ray, in namespaces (root)
	$(BIN)/python -m pytest tests/engines/ray -q --timeout 600

.venv-clients/stamp: tests/clients/python/requirements.txt tests/clients/python/constraints.txt
	@echo "== making .venv-clients: the clients in Python"
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --requirement tests/clients/python/requirements.txt \
	  --constraint tests/clients/python/constraints.txt
	@touch $@

CLIENTS_NODE := tests/clients/node/node_modules/.package-lock.json
$(CLIENTS_NODE): tests/clients/node/package.json tests/clients/node/package-lock.json
	@command -v npm > /dev/null || apt-get install -y nodejs npm
	@echo "== installing the clients in Node"
	cd tests/clients/node && npm ci --silent
	@touch $@

# It imports torch, and takes that and all else that is there from .venv.
.venv-guidellm/stamp: $(VENV)/dev.stamp
	@echo "== making .venv-guidellm: a load generator (350 MB)"
	$(PYTHON) -m venv --clear .venv-guidellm
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$(.venv-guidellm/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth
	.venv-guidellm/bin/python -m pip install --quiet guidellm==0.8.1
	@touch $@

test-clients: install-dev .venv-clients/stamp .venv-guidellm/stamp $(CLIENTS_NODE) ## pictures, tool calls and JSON by the clients that people use: openai, LangChain, LiteLLM and others; a load by guidellm (four minutes)
	$(BIN)/python -m pytest tests/clients -q --timeout 240

test-device: install-dev ## the CPU form of what runs on a machine with a GPU
	PYTHON=$(BIN)/python tools/device/own_server.sh --cpu

lock-clients: ## pin the newest versions of those clients
	$(PYTHON) -m venv --clear .venv-clients
	.venv-clients/bin/python -m pip install --quiet --upgrade --requirement tests/clients/python/requirements.txt
	.venv-clients/bin/python -m pip freeze > tests/clients/python/constraints.txt
	cd tests/clients/node && npm install --save-exact --silent $$(node -p 'Object.keys(require("./package.json").dependencies).map(n => n + "@latest").join(" ")')

.venv-openwebui/stamp: tools/openwebui/install.sh
	@echo "== making .venv-openwebui: Open WebUI (1.5 GB)"
	tools/openwebui/install.sh .venv-openwebui
	@touch $@

record-openwebui: install-dev .venv-openwebui/stamp ## what Open WebUI sends for a chat about a picture, for tests/clients/test_openwebui.py
	@command -v $${MMPLANE_CHROMIUM:-chromium} > /dev/null || apt-get install -y chromium
	PYTHONPATH=tests/process:tests/browser:tests/shared $(BIN)/python tools/openwebui/record.py \
	  .venv-openwebui tests/clients/recorded/openwebui.jsonl build/openwebui.webp

train: install-dev ## train the built-in model (hours; replaces its weights)
	$(BIN)/python -m training.train

train-smoke: install-dev ## a hundred steps: shows that the model learns
	$(BIN)/python -m training.train --smoke

evaluate: install-dev ## how often the built-in model answers right, on pictures it never saw, and by a generator it never saw
	$(BIN)/python -m training.evaluate

demo: install ## three drawn numbers, read by the built-in model
	$(BIN)/mmplane demo

fix: install-dev ## format, and fix what can be fixed automatically
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: install-dev ## style, types, direction of dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: ## the newest versions of everything that .venv gets, into constraints.txt (makes an environment in build/)
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	build/lock/bin/python -m pip install --quiet $(TORCH_OPTIONS) $(TORCH)
	build/lock/bin/python -m pip install --quiet --editable '.[serve,bench,trace]' --group dev $(TORCH)
	build/lock/bin/python tools/lock.py

# Packages of the extras may lack a wheel for the newest interpreter: then its installation says so. Interpreters of pyenv
# count too; its shims are there for versions that do not run. A CPU build of torch that pip finds here may be for PYTHON's
# version alone: others may take the one for CUDA (6 GB on disk for each).
test-pythons: ## the unit tests on every Python from 3.11 to 3.13 that this machine has
	@usual=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	found=0; for version in 3.11 3.12 3.13; do \
	  each=; for one in python$$version $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python3; do \
	    "$$one" -c "" 2> /dev/null && each=$$one && break; \
	  done; \
	  [ "$$each" ] || { echo "== no python$$version here"; continue; }; \
	  echo "== $$each"; found=1; \
	  allow=$$([ $$version = $$usual ] || echo 1); \
	  CUDA_WITHOUT_GPU=$$allow $(MAKE) test-unit PYTHON=$$each VENV=build/venv-python$$version || exit 1; \
	done; [ $$found = 1 ]

wheel: ## the wheel and the source distribution in build/dist, checked as PyPI checks them
	rm -rf build/dist && $(PYTHON) -m venv build/venv-wheel
	build/venv-wheel/bin/python -m pip install --quiet build twine
	build/venv-wheel/bin/python -m build --outdir build/dist
	build/venv-wheel/bin/python -m twine check --strict build/dist/*

docs: install-dev ## the documentation as a site in build/site, with the library's reference
	$(BIN)/python tools/docs/pages.py build/docs
	$(BIN)/zensical build --strict
	@echo "== open build/site/index.html"

screenshots: docs ## the status page, the bench's report and the documentation in a headless Chromium, into docs/screenshots/
	@command -v $${MMPLANE_CHROMIUM:-chromium} > /dev/null || apt-get install -y chromium
	PYTHONPATH=tests/process:tests/browser:tests/shared $(BIN)/python tools/docs/screenshots.py docs/screenshots

check-deploy: install-dev ## deploy/ by promtool, systemd-analyze and a Prometheus that scrapes a server (Debian's)
	@command -v promtool > /dev/null || tools/get-prometheus.sh $(VENV)/prometheus
	@command -v systemd-analyze > /dev/null || apt-get install -y systemd
	PATH=$$PATH:$$PWD/$(VENV)/prometheus/usr/bin $(BIN)/python -m pytest tests/deploy -q --timeout 240

bench: install-dev ## what handing features over costs, five ways
	$(BIN)/python benchmarks/handoff.py

# QUICK=1 is for a look: it leaves the published page alone.
results: install ## measure everything again and write docs/results.md (3 hours); QUICK=1: build/results.md in 10 minutes
	$(BIN)/mmplane bench results $(if $(QUICK),--quick --folder build) $(RESULTS_OPTIONS)

SGLANG_VERSIONS ?= 0.5.20 0.5.21 0.5.22
REQUESTS ?= 46

test-sglang-versions: install-dev .venv-sglang/stamp ## the plugin under other versions of SGLang (200 MB each): transport, and REQUESTS=46 with and without it, TP 1 and 2
	@set -e; for version in $(SGLANG_VERSIONS); do \
	  tools/peers/sglang/overlay.sh .venv-sglang $$version .venv-sglang/overlays/$$version; \
	  echo "== SGLang $$version"; \
	  MMPLANE_SGLANG_OVERLAY=$$PWD/.venv-sglang/overlays/$$version MMPLANE_SGLANG_REQUESTS=$(REQUESTS) \
	    $(BIN)/python -m pytest tests/engines/sglang/test_transport.py tests/engines/sglang/test_same_answers.py \
	    -q --timeout 900; \
	done

results-sglang: install-dev .venv-sglang/stamp ## measure the analyses' designs inside SGLang and write docs/results-sglang.md (an hour); QUICK=1: build/, 10 minutes
	$(BIN)/python benchmarks/results_sglang.py .venv-sglang $(if $(QUICK),--quick --folder build) $(RESULTS_SGLANG_OPTIONS)

simulate: install-dev ## ten thousand runs of a simulated rank group (a minute)
	MMPLANE_FUZZ_EXAMPLES=3334 $(BIN)/python -m pytest tests/unit/ranks/plan/test_simulation.py -q

fuzz: install-dev ## what strangers send, a minute for each target, and longer searches for what the arena and the ranks get wrong
	$(BIN)/python tests/unit/fuzz/run.py 60
	MMPLANE_FUZZ_EXAMPLES=3000 $(BIN)/python -m pytest tests/unit/arena tests/unit/ranks -q

CHAOS_OPTIONS ?= --rounds 500

chaos: install-dev ## the kill matrix: every role killed and stopped at every stage (most of an hour)
	PYTHONPATH=tests/process:tests/shared $(BIN)/python -m tests.chaos $(CHAOS_OPTIONS)

chaos-freeze: install-dev ## ten minutes of stopping all processes together under load
	PYTHONPATH=tests/process:tests/shared $(BIN)/python -m tests.chaos.freeze $(CHAOS_FREEZE_OPTIONS)

chaos-sidecar: install-dev ## the sidecar's kill matrix: every party killed at every stage of an item
	PYTHONPATH=tests/process:tests/shared $(BIN)/python -m tests.chaos.sidecar $(CHAOS_SIDECAR_OPTIONS)

# Needs root: each machine is a network namespace.
LOSSES ?= 500
chaos-machines: install-dev ## media machines lost in every way, 500 times, and how soon each was back (half an hour; LOSSES=20)
	PYTHONPATH=tests/process:tests/shared $(BIN)/python -m tests.chaos.machines $(LOSSES)

chaos-mirrors: install-dev ## a mirror killed at a random moment, 500 times (ten minutes)
	MMPLANE_MIRROR_ROUNDS=500 $(BIN)/python -m pytest tests/process/test_mirrors.py -k at_any_moment --timeout 3600

chaos-nodes: install-dev ## ranks on two machines: something of the group lost in every way, 500 times (two hours; LOSSES=20)
	PYTHONPATH=tests/process:tests/shared $(BIN)/python -m tests.chaos.nodes $(LOSSES)

chaos-strangers: install-dev ## a minute of each kind of hostile client beside an honest one
	MMPLANE_STRANGERS_SECONDS=60 $(BIN)/python -m pytest tests/process/test_strangers.py -q --timeout 300

soak: install-dev ## half an hour at 80 % of capacity, then 10,000 numbers read (another half)
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/readings.py

overload: install-dev ## three times more than the server can do
	$(BIN)/python benchmarks/overload.py

clean: ## remove .venv and caches
	rm -rf $(VENV) .venv-sglang .venv-vllm .venv-ray .venv-clients .venv-guidellm tests/clients/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
