# Bilayer: everything a newcomer or a CI machine needs to type.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := campaign,dev
RUN ?= runs/laptop
# One more than the cores of a small machine: some tests wait for processes.
WORKERS ?= 3
PAPER ?= paper
STORY ?= paper

.PHONY: campaign paper test check bench kernels clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Bilayer needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --only-binary mpi4py,numba,h5py -c constraints.txt -e '.[$(EXTRAS)]'
	@# On all cores, where pip takes one. What packages hold for a later Python does not compile.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

campaign: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m campaign run laptop --out $(RUN)
	$(BIN)/python -m campaign report $(RUN)

paper: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m campaign paper $(PAPER) --out $(STORY)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS),bench]'
	$(BIN)/python benchmarks/continuum.py
	$(BIN)/python benchmarks/selector.py
	$(BIN)/python benchmarks/metric.py
	$(BIN)/python benchmarks/campaign.py
	$(BIN)/python benchmarks/analysis.py

kernels:
	find campaign continuum ml selector benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

clean: kernels
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
