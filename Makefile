# Each target sets up its own environment in .venv on a machine with Python 3.11, make and git.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test proofs faults lint benchmarks assets clean

quickstart: $(VENV)/.product
	$(BIN)/flawforge quickstart

# On a machine whose cores are busy: PYTEST_ADDOPTS=--time-outs-times=10 make test
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What takes minutes: annotator, kills, whole runs.
proofs: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# A hundred kills on a cluster of three nodes here.
faults: $(VENV)/.dev
	$(BIN)/python -m benchmarks.faults

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The figures and sheets of docs/, about an hour on two cores. The judge of tinytown comes from `make assets`.
benchmarks: quickstart
	$(BIN)/python -m benchmarks.factory
	$(BIN)/python -m benchmarks.inversion
	$(BIN)/python -m benchmarks.confinement
	$(BIN)/python -m benchmarks.methods
	$(BIN)/python -m benchmarks.regions
	$(BIN)/python -m benchmarks.tinytown autoencoder
	$(BIN)/python -m benchmarks.tinytown faithfulness --assets $(ASSETS)
	$(BIN)/python -m benchmarks.tinytown realism --sheet docs/realism-32.png
	$(BIN)/python -m benchmarks.tinytown wild --out docs/wild-50.png
	$(BIN)/python -m benchmarks.sheet out/quickstart docs/quickstart-40.png

$(VENV)/.product: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.product
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

# Days of CPU in all; every program resumes where it was stopped. Seed 0 makes the wild images, seed 1 corrupts.
ASSETS ?= $(HOME)/.cache/flawforge-assets
assets: $(VENV)/.product
	$(BIN)/python -m tools.tinytown.vae --out $(ASSETS)
	$(BIN)/python -m tools.tinytown.unet --out $(ASSETS) --seed 0 --text-steps 0 --steps 3200
	$(BIN)/python -m tools.tinytown.unet --out $(ASSETS) --seed 1
	$(BIN)/python -m tools.tinytown.segmenter --out $(ASSETS) --kind convnext
	$(BIN)/python -m tools.tinytown.segmenter --out $(ASSETS) --kind swin
	$(BIN)/python -m tools.tinytown.splits --out $(ASSETS)
	$(BIN)/python -m tools.tinytown.ship --out $(ASSETS) --only splits
	$(BIN)/python -m tools.tinytown.regions --out $(ASSETS) --kind convnext
	$(BIN)/python -m tools.tinytown.regions --out $(ASSETS) --kind swin
	$(BIN)/python -m tools.tinytown.judge --out $(ASSETS)
	$(BIN)/python -m tools.tinytown.ship --out $(ASSETS)

clean:
	rm -rf $(VENV) build *.egg-info
