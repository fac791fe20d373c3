# What runs here needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH := $(shell grep '^torch==' constraints.txt)
# The default index's torch for Linux carries several GB of CUDA, which only an NVIDIA GPU has a use for.
TORCH_INDEX := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help up test lint accuracy faults fuzz audit format pin clean

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-8s %s\n' "$$name" "$$what"; done

up: $(VENV)/for-running ## Start the whole service here, and read a line (more: make up ARGS="--port 9000")
	@exec $(BIN)/inkqueue up $(ARGS)

test: $(VENV)/for-testing lint ## Run everything that must pass: linters, types, imports, tests (less: make test ARGS=tests/unit)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

lint: $(VENV)/for-testing ## Run the linters, the type checker and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

accuracy: $(VENV)/for-testing ## Measure CER and WER of all models on test lines (ARGS="--data DIR")
	$(BIN)/python -m benchmarks.accuracy $(ARGS)

faults: $(VENV)/for-testing ## Inject every fault at random moments, 20 minutes long (ARGS="--minutes 60 --seed 7")
	$(BIN)/python -m tests.faults $(ARGS)

fuzz: $(VENV)/for-testing ## Send many drawn requests to the API, other ones each time (FUZZ_EXAMPLES=N an operation)
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),200) $(BIN)/python -m pytest -p no:cacheprovider tests/integration/test_api_description.py

audit: ## Ask the advisory service whether a pinned version has a known vulnerability
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit; }
	@build/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off 2>build/audit/said; \
	  status=$$?; cat build/audit/said >&2; \
	  if grep -qE 'could not be audited|ServiceError|ConnectionError|HTTPSConnectionPool' build/audit/said; then \
	    echo "The advisory service, https://pypi.org, does not answer from here: nothing was checked." >&2; exit 2; \
	  fi; exit $$status

format: $(VENV)/for-testing ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

pin: ## Write the newest versions that fit pyproject.toml into constraints.txt
	$(PYTHON) -m venv --clear build/pin
	build/pin/bin/python -m pip install --quiet $(TORCH)
	build/pin/bin/python -m pip install --quiet '.[api,worker,openvino,embedded,training,dev]'
	head -1 constraints.txt >build/constraints.txt
	build/pin/bin/python -m pip freeze --exclude inkqueue | sed 's/+cpu$$//' >>build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## Remove what was installed and cached; the data in .inkqueue stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/for-running: $(VENV)/with-torch
	@echo "Installing inkqueue ..."
	@$(PIP) install --constraint constraints.txt --editable '.[api,worker,openvino,embedded]'
	@touch $@

$(VENV)/for-testing: $(VENV)/with-torch
	@echo "Installing inkqueue and its tests ..."
	@$(PIP) install --constraint constraints.txt --editable '.[api,worker,openvino,embedded,training,dev]'
	@touch $@ $(VENV)/for-running

$(VENV)/with-torch: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "inkqueue needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). If there is another: make up PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing $(TORCH) (about 200 MB, once) ..."
	@if [ "$$(uname -s)" = Linux ] && ! nvidia-smi >/dev/null 2>&1; then \
	  $(PIP) install --no-deps --retries 1 --timeout 10 --index-url $(TORCH_INDEX) $(TORCH) 2>/dev/null || \
	  echo "PyTorch's own index does not answer; trying the usual one."; fi
	@$(PIP) install --constraint constraints.txt $(TORCH)
	@touch $@
