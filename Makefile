# `make quickstart` and `make test` set up all they need on a machine that has Python 3.11 or newer, and do their job.
PYTHON ?= python3
BIN := .venv/bin
PARITY := .venv-parity/bin

.PHONY: quickstart test slow slurm lint parity

quickstart: $(BIN)/.run
	$(BIN)/python launch.py --config=experiments/quickstart.py --jobs=2

test: $(BIN)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(BIN)/.dev
	$(BIN)/python -m pytest -m slow || test $$? -eq 5 # 5: there is none

# On a cluster: tests/slurm/cluster.sh start (as root) makes one of two nodes on this machine.
slurm: $(BIN)/.dev
	$(BIN)/python -m pytest -m slurm

# Against transformers itself, in an environment of its own.
parity: $(PARITY)/.parity
	OMP_NUM_THREADS=1 $(PARITY)/python -m pytest tests/parity -p no:cacheprovider

lint: $(BIN)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=…")'
	$(PYTHON) -m venv .venv

$(BIN)/.run: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(BIN)/.dev: requirements.txt requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(BIN)/.run

$(PARITY)/.parity: requirements.txt requirements-parity.txt
	test -x $(PARITY)/python || $(PYTHON) -m venv .venv-parity
	$(PARITY)/python -m pip install --quiet --disable-pip-version-check -r requirements-parity.txt
	touch $@
