# The two commands of the README are `quickstart` and `test`. Each makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test check unit test-cluster fuzz docs clean

quickstart: $(VENV)/.installed
	$(BIN)/ckconv-sweep launch search_spaces/quickstart.yaml

test: check unit

# Style, types and the layers of the package.
check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread a process: the tests' tensors are too small to share among threads. One process more than
# two cores have, because tests with a Ray or a tracking server wait a good deal.
unit: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 3 --dist loadfile --no-loadscope-reorder

# A Ray cluster of several hosts on this machine: network namespaces, as root. Skipped elsewhere.
test-cluster: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/cluster

# The properties of everything that reads or writes a file, with EXAMPLES examples each instead of
# the 60 to 100 of `make test`. All tests take the number from HYPOTHESIS_EXAMPLES, and how often a
# checkpoint is damaged from CKCONV_FLIPS. Tens of minutes on two cores.
EXAMPLES ?= 5000
FUZZED := tests/config tests/report tests/data/test_archives.py tests/data/test_ts_format.py
fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 HYPOTHESIS_EXAMPLES=$(EXAMPLES) CKCONV_FLIPS=$(EXAMPLES) $(BIN)/python -m pytest \
		$(FUZZED) tests/training/test_checkpoint.py --numprocesses 2 --timeout 3600 --durations 20

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/.installed

# The tables of the documents and the JSON Schema, from the code; tests fail where they are not up to date.
docs: $(VENV)/.installed
	$(BIN)/python -m tests.contracts.generated

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
