# `make demo` and `make test` set up what they need in .venv; everything else builds on the same environment.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
export UV_PROJECT_ENVIRONMENT = $(VENV)
export UV_PYTHON_DOWNLOADS = never
# What is imported is compiled once, not by every process of a test run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-ceph test-lowest lint types imports docs docs-serve package bench-smoke bench lock clean

demo: $(VENV)/.run
	$(BIN)/cubekit demo --out build/demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n logical --dist loadfile --max-worker-restart 0

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "slow and not ceph" --timeout=1800

# The S3 tests again, on a Ceph cluster that they start: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common
test-ceph: $(VENV)/.dev
	$(BIN)/python -m pytest -m ceph -rs --timeout=1800

# With the lowest versions that pyproject.toml allows, in an environment of its own.
test-lowest: $(VENV)/bin/uv
	$(PYTHON) -m venv --clear .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[dev]"
	.venv-lowest/bin/python -m pytest -n logical --dist loadfile --max-worker-restart 0

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

docs-serve: $(VENV)/.dev
	$(BIN)/mkdocs serve

# A wheel in a clean environment: its top level is cubekit and cubekit_cli, and the command runs.
package: $(VENV)/.dev
	rm -rf build/wheel && $(BIN)/uv build -q --wheel --out-dir build/wheel
	$(BIN)/python tests/packaging/check_wheel.py build/wheel

bench-smoke: $(VENV)/.dev
	for bench in benchmarks/[!_]*.py; do echo "$$bench"; $(BIN)/python $$bench --quick || exit 1; done

bench: $(VENV)/.dev
	for bench in benchmarks/[!_]*.py; do $(BIN)/python $$bench || exit 1; done

lock: $(VENV)/.dev
	$(BIN)/uv lock --upgrade

clean:
	rm -rf $(VENV) .venv-lowest build dist .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/uv:
	@test -n "$(PYTHON)" || { echo "cubekit needs Python 3.11 or newer on PATH (or make PYTHON=/path/to/python)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.5"

$(VENV)/.run: pyproject.toml uv.lock | $(VENV)/bin/uv
	$(BIN)/uv sync --quiet --frozen --inexact --extra publish --extra climate
	touch $@

$(VENV)/.dev: pyproject.toml uv.lock | $(VENV)/bin/uv
	$(BIN)/uv sync --quiet --frozen --inexact --extra dev
	touch $(VENV)/.run $@
