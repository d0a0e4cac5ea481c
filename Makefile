# Each target sets up its own environment in .venv on a machine with Python 3.11, make and git.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

# `make quickstart UV=1` installs with uv, and torch from PyTorch's own index: the build for this machine's GPU, or the
# one without CUDA. TORCH_BACKEND=cu128 names a build; an empty TORCH_BACKEND takes torch from the configured index.
# An environment that uv made has no pip, so it stays with uv.
UV ?= $(shell grep -s '^uv = ' $(VENV)/pyvenv.cfg)
TORCH_BACKEND ?= $(or $(UV_TORCH_BACKEND),auto)
ifeq ($(UV),)
ENVIRONMENT = $(PYTHON) -m venv $(VENV)
INSTALL = $(BIN)/pip install --quiet --constraint constraints.txt
else
UV_COMMAND = $(or $(shell command -v uv 2>/dev/null),$(error UV=1 needs uv: see https://docs.astral.sh/uv, or leave out UV=1))
ENVIRONMENT = $(UV_COMMAND) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
INSTALL = $(UV_COMMAND) pip install --quiet --python $(BIN)/python --constraint constraints.txt \
	$(addprefix --torch-backend=,$(TORCH_BACKEND))
export ADVICE = uv does not read the settings of pip: set UV_DEFAULT_INDEX where pip has another index. \
	Where download.pytorch.org is out of reach, add TORCH_BACKEND= to take torch from that index, too.
OR_ADVISE = || { echo "$$ADVICE" >&2; exit 1; }
endif

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
	$(ENVIRONMENT)
	$(INSTALL) --editable . $(OR_ADVISE)
	touch $@

$(VENV)/.dev: $(VENV)/.product
	$(INSTALL) --editable ".[dev]" $(OR_ADVISE)
	touch $@

# Days of CPU in all; every program resumes where it was stopped. Seed 2 makes the wild images, seed 1 corrupts.
ASSETS ?= $(HOME)/.cache/flawforge-assets
assets: $(VENV)/.product
	$(BIN)/python -m tools.tinytown.vae --out $(ASSETS)
	$(BIN)/python -m tools.tinytown.unet --out $(ASSETS) --seed 1
	$(BIN)/python -m tools.tinytown.unet --out $(ASSETS) --seed 2 --steps 2000
	$(BIN)/python -m tools.tinytown.unet --out $(ASSETS) --seed 2 --steps 3000
	$(BIN)/python -m tools.tinytown.segmenter --out $(ASSETS) --kind convnext
	$(BIN)/python -m tools.tinytown.segmenter --out $(ASSETS) --kind swin
	$(BIN)/python -m tools.tinytown.splits --out $(ASSETS)
	$(BIN)/python -m tools.tinytown.ship --out $(ASSETS) --only splits
	$(BIN)/python -m tools.tinytown.regions --out $(ASSETS) --kind convnext
	$(BIN)/python -m tools.tinytown.regions --out $(ASSETS) --kind swin
	$(BIN)/python -m tools.tinytown.judge --out $(ASSETS)
	$(BIN)/python -m tools.tinytown.instrument --out $(ASSETS)
	$(BIN)/python -m tools.tinytown.ship --out $(ASSETS)

clean:
	rm -rf $(VENV) build *.egg-info
