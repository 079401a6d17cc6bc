# Everything a person or the automated build does here. `make run` and `make test` need only Python 3.10+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests of whole servers at once: with more of them, those that count seconds wait for each other.
WORKERS := 2

.PHONY: help run test thorough check fmt e2e fault clients load scale nightly bench bench-quality bench-peers build lock image clean setup
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed (PYTHON=... make)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

setup: $(READY) ## make the virtual environment

run: $(READY) ## serve on http://127.0.0.1:8000/mcp with the token dev-token
	@$(PYTHON) scripts/example_content.py data
	MEMORY_ROOT=data MCP_TOKEN=dev-token SYNC_TOKEN=dev-sync-token $(BIN)/federated-memory serve

test: $(READY) ## unit and contract tests
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not thorough"

thorough: $(READY) ## those of them that take long: models, generated data, waiting
	$(BIN)/python -m pytest -n auto --dist worksteal -m thorough

check: $(READY) ## format, lint, types
	$(BIN)/ruff format --check src client tests scripts
	$(BIN)/ruff check src client tests scripts
	$(BIN)/mypy
	$(BIN)/mypy --strict client/memory_sync.py
	$(BIN)/python scripts/settings_table.py --check
	$(BIN)/python scripts/lock_requirements.py --check
	$(BIN)/mypy --explicit-package-bases scripts/bench scripts/corpus scripts/quality scripts/gen_corpus.py scripts/compare_scanners.py scripts/lock_requirements.py scripts/node_tools.py scripts/model_standin.py scripts/other_standins.py scripts/load.py scripts/scale.py scripts/nightly.py scripts/sbom.py

fmt: $(READY) ## put the code into its form
	$(BIN)/ruff check --fix src client tests scripts
	$(BIN)/ruff format src client tests scripts

e2e: $(READY) ## real servers, real clients (installs Node 22 and the clients from npm once)
	$(BIN)/python scripts/node_tools.py
	$(BIN)/python -m pytest tests/e2e -n $(WORKERS) --dist loadfile

fault: $(READY) ## full disks, killed servers, failing system calls
	$(BIN)/python -m pytest tests/fault -n $(WORKERS) --dist loadfile

clients: $(READY) ## the main job with the real Claude Code CLI, step by step
	$(BIN)/python scripts/node_tools.py
	$(BIN)/python -m pytest tests/e2e/test_claude_code.py -s

load: $(READY) ## 50 agents and 20 machines at one server for 2 minutes (LOAD="--minutes 30 --restarts 6": a soak)
	$(BIN)/python -m scripts.load $(LOAD)

scale: $(READY) ## how each operation grows with what is stored (SCALE="--unit 1": 100 GB of transcripts, a million memories)
	$(BIN)/python -m scripts.scale $(SCALE)

nightly: $(READY) ## the long suites and one table of what they tried and found (NIGHTLY='--only "kill*"')
	@test -x .cache/scanners/bin/detect-secrets || { $(PYTHON) -m venv .cache/scanners && .cache/scanners/bin/python -m pip install --quiet --disable-pip-version-check detect-secrets==1.5.0; }
	@test -x .cache/scanners/bin/pip-audit || .cache/scanners/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python scripts/node_tools.py
	$(BIN)/python -m scripts.nightly $(NIGHTLY)

bench: $(READY) ## ratios against references measured in the same run
	$(BIN)/python -m scripts.bench $(BENCH)

bench-quality: $(READY) ## how well search finds, on labelled sets made from seeds (BENCH=--split=test)
	$(BIN)/python -m scripts.quality $(BENCH)

bench-peers: $(READY) ## other memory servers on the same texts (installs them once)
	$(BIN)/python -m scripts.bench.peers $(BENCH)

build: $(READY) ## the wheel, in dist/, and its bill of materials (CycloneDX)
	$(BIN)/python -m build --wheel --installer pip
	@$(BIN)/python scripts/sbom.py

lock: $(READY) ## deploy/requirements.txt, every version pinned and every file hashed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python scripts/lock_requirements.py

image: ## the container image
	docker build --file deploy/Dockerfile --tag federated-memory:local .

clean: ## remove what this file made
	rm -rf $(VENV) .cache dist build data
