# Everything starts from a bare machine: Python 3.10 or newer with pip and venv, and make.
PYTHON ?= python3
ARGS ?=
DATA ?= data
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart install test slow lint types check clean figures chaos network paper

quickstart: $(VENV)/project  ## install, then tune a prompt for handwritten digits
	$(BIN)/zip-ray tune quickstart $(ARGS)

install: $(VENV)/project

test: $(VENV)/dev  ## tests, three files at a time, since tests of Ray mostly wait
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 30 $(ARGS)

slow: $(VENV)/dev  ## the tests that `make test` leaves out: half a minute each, or more
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/python -m mypy

paper: $(VENV)/project  ## the papers' tables over the data sets under DATA; the same command continues
	failed=0; for suite in paper paper-base-to-new paper-transfer paper-out-of-distribution; do \
	$(BIN)/zip-ray compare suites/$$suite --data $(DATA) $(ARGS) || { failed=$$?; [ $$failed != 130 ] || exit 130; }; done; exit $$failed

chaos: $(VENV)/dev  ## 2,000 simulated and 100 real schedules of faults (about half an hour)
	$(BIN)/python -m tests.system.chaos

network: $(VENV)/dev  ## hosts with addresses of their own, a link cut, a host lost; needs root
	$(BIN)/python -m tests.system.network

figures: $(VENV)/dev  ## measure again what docs/ quotes (about an hour and a half)
	$(BIN)/python benchmarks/tasks.py --write --check
	$(BIN)/python benchmarks/gains.py --write
	$(BIN)/python benchmarks/gains.py --method spsa --tasks digits texture shape --seeds 101 --write
	$(BIN)/python benchmarks/gains.py --method spsa-gc --tasks digits texture shape --seeds 101 --write
	$(BIN)/python benchmarks/gains.py --method blackvip --tasks digits --seeds 101 --queries 1000 --write
	$(BIN)/python benchmarks/accuracy.py --write --check
	$(BIN)/python benchmarks/query.py --write --check
	$(BIN)/python benchmarks/vlm.py --write --check
	$(BIN)/python benchmarks/memory.py --write --check
	$(BIN)/python benchmarks/staleness.py --write --check
	$(BIN)/python benchmarks/scaling.py --write --check
	$(BIN)/python benchmarks/stragglers.py --write --check
	$(BIN)/python benchmarks/readout.py --write --check
	$(BIN)/python benchmarks/rounds.py --write --check
	$(BIN)/python benchmarks/driver.py --write --check
	$(BIN)/python benchmarks/startup.py --write
	$(BIN)/python benchmarks/experiments.py --write
	$(BIN)/python benchmarks/scheduling.py --write
	$(BIN)/python benchmarks/scale.py --write

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/project: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "zip-ray needs Python 3.10 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/dev: $(VENV)/project
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
