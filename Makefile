# `make quickstart` and `make test` set up all they need on a machine that has Python 3.11 or newer, and do their job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEWEST := .venv-newest
PARITY := .venv-parity/bin
INSTALL = $(@D)/python -m pip install --quiet --disable-pip-version-check $(addprefix -r ,$(filter requirements%.txt,$^))

# What jax computes on in `make quickstart`: ACCELERATOR=cuda or tpu.
ACCELERATOR := cpu
REQUIREMENTS_cpu := requirements.txt
REQUIREMENTS_cuda := requirements.txt requirements-cuda.txt
REQUIREMENTS_tpu := requirements.txt requirements-tpu.txt
ifeq ($(REQUIREMENTS_$(ACCELERATOR)),)
$(error ACCELERATOR=$(ACCELERATOR) is not one of cpu, cuda, tpu)
endif

# LOCKED=1: exactly the versions of requirements.lock, each file compared with its hash. They are those of a CPU.
LOCKED :=
ifneq ($(and $(LOCKED),$(filter-out cpu,$(ACCELERATOR))),)
$(error LOCKED=1 is for ACCELERATOR=cpu; requirements.lock has no packages of $(ACCELERATOR))
endif

.PHONY: quickstart teacher test test-newest slow fuzz slurm lint parity bench lock locked audit sbom release

# Two runs at once on a CPU; else one on each GPU or TPU chip.
quickstart: $(if $(LOCKED),locked,$(BIN)/.run-$(ACCELERATOR))
	$(BIN)/python launch.py --config=experiments/quickstart.py $(if $(filter cpu,$(ACCELERATOR)),--jobs=2)

# The encoder of assets/teacher anew, from the embedded corpus and BOOKS, JSON lines with a field 'text'; an hour on one core.
BOOKS := books.jsonl.xz
teacher: $(BIN)/.run-cpu
	$(BIN)/python launch.py --config=configs/bert.py:shipped --workdir=runs/shipped \
		--config.data.source='0.4 docstrings + 0.6 jsonl:$(BOOKS)'
	$(BIN)/python -m research.interchange export runs/shipped runs/shipped-exported
	cp runs/shipped-exported/*.json runs/shipped-exported/model.safetensors assets/teacher

# TESTS: files and folders of tests; all by default.
TESTS :=
test: $(BIN)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

# The same tests with the newest Python of this machine and the newest jax for it, in an environment of their own.
test-newest: $(BIN)/python
	@python=$$($(BIN)/python tests/newest.py) || exit; \
	test -n "$$python" || exit 0; \
	test "$$($(NEWEST)/bin/python --version 2>&1)" = "$$("$$python" --version)" || rm -rf $(NEWEST); \
	$(MAKE) --no-print-directory versions test VENV=$(NEWEST) PYTHON="$$python"

.PHONY: versions
versions: $(BIN)/.dev
	@$(BIN)/python -c 'import jax, platform; print("Python", platform.python_version(), "jax", jax.__version__)'

slow: $(BIN)/.dev
	$(BIN)/python -m pytest -m slow -n 2 --dist worksteal || test $$? -eq 5 # 5: there is none

# Every parser of files from elsewhere, for so many seconds each; what fails is kept in tests/fuzz/found.
fuzz: SECONDS = 600
fuzz: $(BIN)/.dev
	$(BIN)/python -m tests.fuzz --seconds=$(SECONDS)

# On a cluster: tests/slurm/cluster.sh start (as root) makes one of two nodes on this machine.
slurm: $(BIN)/.dev
	$(BIN)/python -m pytest -m slurm tests/slurm

# Against transformers itself, in an environment of its own.
parity: $(PARITY)/.parity
	OMP_NUM_THREADS=1 $(PARITY)/python -m pytest tests/parity -p no:cacheprovider

# Every benchmark at the size of a small CPU, in a quarter of an hour: tables here, JSON files in runs/benchmarks. Each has a budget of
# seconds; what does not fit into it has failed, and the table says so. `python benchmarks/NAME.py --help` tells the rest.
BENCH = $(PARITY)/python benchmarks
bench: $(PARITY)/.parity
	$(BENCH)/train_step.py --batch=2 --rounds=3 --seconds=1 --budget=300 --cases='bert-base-128,albert-base-128,distilbert-teacher-128' \
		--json=runs/benchmarks/train_step_base.json
	$(BENCH)/train_step.py --rounds=3 --seconds=1 --ways=jit,pmap --budget=160 --cases='small-128,equal-64,label-32' \
		--json=runs/benchmarks/train_step_small.json
	$(BENCH)/inference.py --rounds=3 --seconds=0.5 --peers=eager,onnx,int8 --budget=180 \
		--cases='minilm-1x32,minilm-1x128,minilm-32x32,bert-base-1x32,bert-base-1x128,sentences'
	$(BENCH)/epoch.py --steps=16 --rounds=2 --budget=120
	$(BENCH)/depth.py --small
	$(if $(wildcard benchmarks/devices.py),$(BENCH)/devices.py --small)

lint: $(BIN)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# All that requirements.txt brings, for every Python from 3.11 on, with hashes. Versions that still fit stay; UPGRADE=1 takes the newest.
lock: $(BIN)/.dev
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
		$(if $(UPGRADE),--upgrade) requirements.txt --output-file requirements.lock

locked: requirements.lock | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock

# Known vulnerabilities of what is locked. Statuses of .ci/audit.py: 0, none; 1, some that are not explained; 3, nobody could be asked.
audit: $(BIN)/.dev
	$(BIN)/python .ci/audit.py

# A CycloneDX bill of materials of this version and requirements.lock. cyclonedx-py knows no version that is read from a module.
sbom: $(BIN)/.dev
	mkdir -p dist
	version=$$($(BIN)/python -c 'from research.version import VERSION; print(VERSION)') && \
	sed "s/^dynamic = .*/version = '$$version'/" pyproject.toml > dist/pyproject.toml
	$(BIN)/python -W ignore -m cyclonedx_py requirements --pyproject dist/pyproject.toml --output-reproducible --of JSON \
		--output-file dist/sbom.json requirements.lock
	rm dist/pyproject.toml

release: sbom
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	cp requirements.lock dist

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)

$(BIN)/.run-$(ACCELERATOR): $(REQUIREMENTS_$(ACCELERATOR)) | $(BIN)/python
	$(INSTALL)
	touch $@

$(BIN)/.dev: requirements.txt requirements-dev.txt | $(BIN)/python
	$(INSTALL)
	touch $@ $(BIN)/.run-cpu

$(PARITY)/.parity: requirements.txt requirements-dev.txt requirements-parity.txt
	test -x $(PARITY)/python || $(PYTHON) -m venv .venv-parity
	$(INSTALL)
	touch $@
