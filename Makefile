# Targets: setup demo test check faults bench. Everything runs in .venv, made from requirements.lock.
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
STAMP := .venv/.installed
# Compiled modules are kept, also where the environment forbids it: torch and Ray start in seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test check faults bench lock
setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or sys.exit(f"erray needs Python 3.11 or 3.12, {sys.executable} is {v[0]}.{v[1]}: run make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'import erray.cli.main, erray.flow.pipeline'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/erray demo

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 tests/unit

test: check
	$(BIN)/python -m pytest tests/integration

faults: $(STAMP)
	$(BIN)/python -m pytest tests/faults

bench: $(STAMP)
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --generate-hashes --universal \
		--no-emit-index-url --no-header --quiet --output-file requirements.lock
