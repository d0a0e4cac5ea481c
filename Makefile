# Each target sets up its own environment in .venv on a machine with Python 3.11, make and git.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test lint benchmarks assets clean

quickstart: $(VENV)/.product
	$(BIN)/flawforge quickstart

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The figures of docs/performance.md, about half an hour on two cores.
benchmarks: $(VENV)/.product
	$(BIN)/python -m benchmarks.corruption

$(VENV)/.product: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.product
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# Days of CPU in all; every program resumes where it was stopped.
ASSETS ?= $(HOME)/.cache/flawforge-assets
assets: $(VENV)/.product
	$(BIN)/python -m train.tinytown_vae --out $(ASSETS)
	$(BIN)/python -m train.tinytown_unet --out $(ASSETS)
	rm -rf tinytown/weights/sd && mkdir -p tinytown/weights && cp -r $(ASSETS)/sd tinytown/weights/sd

clean:
	rm -rf $(VENV) build *.egg-info
