# `make demo` and `make test` need only Python 3.11+ and make: each sets up .venv by itself, then does its job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test check slow format clean

demo: $(READY)
	$(BIN)/reappear demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

slow: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

# uv where it is found, plain venv and pip otherwise.
$(READY): pyproject.toml
	@set -e; if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV); \
	  uv pip install --quiet --python $(BIN)/python --group dev -e .; \
	else \
	  $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"; \
	  $(BIN)/python -m pip install --quiet --group dev -e .; \
	fi; \
	touch $(READY)
