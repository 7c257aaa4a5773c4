# make PYTHON=python3.12 ...  the interpreter that .venv is made with
# make VENV= ...              the active environment, as it is: nothing is installed
PYTHON ?= python3
VENV ?= .venv
OUT ?=
DATA ?=

ifeq ($(strip $(VENV)),)
RUN := $(PYTHON)
READY :=
DENO := deno
else
RUN := $(VENV)/bin/python
READY := $(VENV)/.installed
DENO := $(abspath $(VENV))/bin/deno
endif

# Threads that wait without spinning: on cores shared with other programs, spinning can cost a factor of thirty.
demo test test-slow matrix bench: export OMP_WAIT_POLICY ?= passive

.PHONY: help demo test test-slow compile matrix figures bench report gpu lint wheel clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo '  PYTHON=python3.12  the interpreter .venv is made with; to change it later, remove .venv first'
	@echo '  VENV=              use the active environment as it is, install nothing'

demo: $(READY) ## train on low-light photographs and enhance them; DATA=DIR takes your own, OUT=DIR is where to (demo)
	@$(RUN) -m bench.demo --out '$(or $(OUT),demo)' $(if $(DATA),--data '$(DATA)')

# On all processors where pytest-xdist is installed; an environment given by VENV= may lack it.
PYTEST = $(RUN) -m pytest $$($(RUN) -c 'import importlib.util as i; print("-n auto --dist loadgroup" * bool(i.find_spec("xdist")))')

test: $(READY) ## the tests (6 to 10 minutes on 2 cores); test-slow has the rest
	$(PYTEST) -m "not slow"

test-slow: $(READY) ## the exhaustive half: every combination, long processes (15 minutes)
	$(PYTEST) -m slow

compile: $(READY) ## the kernels by the oldest Triton supported, 3.6 and the newest (4 minutes; fetches them once, 1 GB)
	@$(RUN) -m bench tritons

matrix: $(READY) ## all kernels by every Triton, the core tests in whole environments (hours; fetches 15 GB)
	@$(RUN) -m bench tritons --all; status=$$?; $(RUN) -m bench environments && exit $$status

figures: $(READY) ## measure every figure the project promises, here and now (about 3 minutes)
	@$(RUN) -m bench figures

bench: $(READY) ## pytest-benchmark of loss, Retinex and enhancing, saved in .benchmarks (under 2 minutes)
	$(RUN) -m pytest bench/test_speed.py --benchmark-autosave --benchmark-columns=min,median,iqr
	@echo 'what changed between runs: $(RUN) -m pytest_benchmark compare --group-by=name --columns=min,median,iqr'

report: $(READY) ## write docs/performance.md, its pictures and the README's chart from bench/results
	@$(RUN) -m bench report

gpu: $(READY) ## on a GPU: parity, speeds, tests, memory checks, ncu, in stages (under 9 minutes); OUT=DIR takes copies
	@$(RUN) -m bench gpu $(if $(OUT),--out '$(OUT)')

lint: $(READY) ## ruff, mypy over all but the tests, and deno over what browsers read
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	cd model/web && $(DENO) fmt --quiet --check
	cd model/web && $(DENO) lint --quiet
	cd model/web && $(DENO) check --quiet page/main.js engines/worker.js gallery/gallery.js

wheel: $(READY) ## the pure-Python wheel, in dist/
	rm -rf build
	$(RUN) -m pip wheel . --no-deps --no-build-isolation --wheel-dir dist

clean: ## remove build products and caches; keeps .venv, demo/ and runs/
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .benchmarks .tried
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# The stamp comes last, so that an interrupted installation is taken up again. Build isolation is off so that the
# pinned setuptools builds the project; pip asks the network only for what is missing.
$(VENV)/.installed: constraints.txt setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed by the pinned versions, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -c constraints.txt setuptools
	$(RUN) -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
