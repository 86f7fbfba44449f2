# make demo | make test | make test-full | make lint: each works from nothing and takes seconds when installed.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-full lint clean

demo: .venv/core
	$(BIN)/anygrain segment examples/street.jpg -t "the building" -t "all windows" -t "the car" --out out/demo
	@echo "overlay: out/demo/street.overlay.png   masks: out/demo/street.json"

test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-full: .venv/dev
	$(BIN)/python -m pytest -s

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf .venv out

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/core: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[dev]"
	@touch .venv/core $@
