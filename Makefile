# Two commands carry the project: `make demo` and `make test`. Both work in a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
RUNS   ?= runs
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -q -c constraints.txt
STAMP  := $(VENV)/.stamp
DEMO   := digits --latent 8 --hidden 128 --seed 0

# One thread a process: faster for small networks, and runs repeat to the last digit.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What one process has compiled the others read: a third of a test run's imports otherwise.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.PHONY: help install dev demo test lint types layers references docs check-environment variation tests adopters
.PHONY: long whole seeds variations mutants fuzz damage sanitize wheel check-wheel bench format clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- installation: stamp files, so that a second `make` installs nothing ---------------------------------------------

$(STAMP)-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "curvae needs Python 3.11 or newer, and '$(PYTHON)' is not: try 'make PYTHON=python3.12 ...'." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and alone: nothing that comes later may choose another build of it.
$(STAMP)-torch: $(STAMP)-venv constraints.txt
	$(PIP) torch
	@touch $@

$(STAMP)-run: $(STAMP)-torch pyproject.toml
	$(PIP) -e .
	@touch $@

$(STAMP)-dev: $(STAMP)-torch pyproject.toml
	$(PIP) -e '.[dev]'
	@touch $@ $(STAMP)-run

install: $(STAMP)-run ## Make .venv and install curvae into it
dev: $(STAMP)-dev ## The same, with what tests and docs need

# --- the demo --------------------------------------------------------------------------------------------------------

# Train unless that run is finished already; one that was cut off is taken up again.
define fit
	@if grep -qs '"finished"' $(RUNS)/demo-$(1)/status.json; then \
	  echo "$(RUNS)/demo-$(1) is trained already: delete that folder to train it again."; \
	else set -x; $(BIN)/curvae fit $(1) $(DEMO) --out $(RUNS)/demo-$(1); fi
endef

demo: $(STAMP)-run ## Fit, evaluate and compare a VAE and a VLAE on the digits, and write a report
	$(call fit,vae)
	$(call fit,vlae)
	$(BIN)/curvae evaluate $(RUNS)/demo-vae
	$(BIN)/curvae evaluate $(RUNS)/demo-vlae
	$(BIN)/curvae compare $(RUNS)/demo-vae $(RUNS)/demo-vlae
	$(BIN)/curvae report $(RUNS)/demo-vlae
	@echo "Open $(abspath $(RUNS))/demo-vlae/report.html in a browser."

# --- checks: pytest comes last, so that its summary is the last line --------------------------------------------------

test: ## Run every check: lint, format, types, layers, docs, tests, and the contracts under one other condition
	@$(MAKE) lint
	@$(MAKE) types
	@$(MAKE) layers
	@$(MAKE) check-environment
	@$(MAKE) references
	@$(MAKE) variation
	@$(MAKE) tests

lint: $(STAMP)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(STAMP)-dev
	$(BIN)/lint-imports

check-environment: $(STAMP)-dev
	@if $(BIN)/python -m pip show -q torchvision >/dev/null 2>&1; then \
	  echo "torchvision is installed in $(VENV): some dependency asked for it, and its import fails next to a CPU build of torch. Remove that dependency." >&2; exit 1; fi

# Everything that a build warns of, without its pages: two thirds of the time goes into the navigation of each.
references: $(STAMP)-dev
	$(BIN)/sphinx-build -q -W -n --keep-going -b dummy docs docs/_build/dummy

docs: $(STAMP)-dev ## Build the documentation strictly (warnings are errors)
	$(BIN)/sphinx-build -q -W -n --keep-going -b html docs docs/_build/html
	@echo "Documentation: docs/_build/html/index.html"

tests: $(STAMP)-dev
	$(BIN)/python -m pytest -q -n 2 --slow 16

variation: $(STAMP)-dev
	$(BIN)/python tests/variations.py

CODE := $(addprefix tests/unit/test_,kernel.py compiled.py last_step.py bfgs.py)

# --- the wheel --------------------------------------------------------------------------------------------------------

wheel: $(STAMP)-venv ## Build a wheel for this platform, with the compiled kernel in it: dist/
	rm -rf build/kernel dist
	$(BIN)/python -m pip wheel -q --no-deps -w dist .
	@if ls dist/*-none-any.whl >/dev/null 2>&1; then \
	  echo "$$(ls dist): no compiled kernel is in it, as '$(CC)' does not compile it (pip -v says why)." >&2; exit 1; fi
	@ls dist/*

check-wheel: wheel ## Install the wheel in a clean environment without a compiler, and run the tests of the C code there
	$(PYTHON) -m venv --clear build/clean
	build/clean/bin/python -m pip install -q -c constraints.txt torch
	build/clean/bin/python -m pip install -q -c constraints.txt dist/*.whl pytest pytest-xdist hypothesis beartype
	env -u CC -u PYTHONPATH CURVAE_CACHE=build/clean/cache PATH=$(CURDIR)/build/clean/bin \
	  python tests/installed.py $(CODE)


# --- models of other libraries ------------------------------------------------------------------------------------------

ADOPTERS := build/adopters

# torch first and alone, and pythae by itself: it asks for a package that Python has had since 3.7.
$(ADOPTERS)/.stamp: constraints.txt pyproject.toml
	$(PYTHON) -m venv --clear $(ADOPTERS)
	$(ADOPTERS)/bin/python -m pip install -q -c constraints.txt torch
	$(ADOPTERS)/bin/python -m pip install -q -c constraints.txt -e '.[anndata]' pytest pytest-xdist hypothesis beartype \
	  diffusers scvi-tools cloudpickle imageio 'pydantic>=2' tqdm
	$(ADOPTERS)/bin/python -m pip install -q --no-deps pythae==0.1.2
	@if $(ADOPTERS)/bin/python -m pip show -q torchvision >/dev/null 2>&1; then \
	  echo "torchvision is installed in $(ADOPTERS): some dependency asked for it; remove that one." >&2; exit 1; fi
	@touch $@

adopters: $(ADOPTERS)/.stamp ## Test adopted models with pythae, diffusers and scvi-tools, in an environment of their own
	$(ADOPTERS)/bin/python -m pytest -q tests/adopters

# --- what takes hours ------------------------------------------------------------------------------------------------

long: ## Run what takes hours: all conditions, whole pages, fuzzing, damaged and killed runs, sanitizers, the wheel, mutants, seeds
	@$(MAKE) docs
	@$(MAKE) variations
	@$(MAKE) whole
	@$(MAKE) fuzz
	@$(MAKE) damage
	@$(MAKE) sanitize
	@$(MAKE) check-wheel
	@$(MAKE) mutants
	@$(MAKE) seeds

seeds: $(STAMP)-dev ## Run the statistical tests with 200 other seeds (hours), and write docs/studies/seeds.md
	$(BIN)/python benchmarks/seeds.py

variations: $(STAMP)-dev ## The whole suite under each other condition and with three other seeds
	$(BIN)/python tests/variations.py --all

mutants: $(STAMP)-dev ## Draw 30 mutants of the package, and see whether the tests notice
	$(BIN)/python benchmarks/mutants.py --seed $(or $(SEED),16) --count 30

whole: $(STAMP)-dev ## Run every test: the slow ones too, how-to pages with fits of full length, all of scikit-learn's own checks
	CURVAE_TEST_WHOLE=1 $(BIN)/python -m pytest -q -n 2

fuzz: $(STAMP)-dev ## Property tests with 50 times the examples
	CURVAE_TEST_EXAMPLES=50 $(BIN)/python -m pytest -q -n 2 -m hypothesis

damage: $(STAMP)-dev ## Open 10,000 damaged run folders, and kill fit, evaluate and report at 20 moments each
	$(BIN)/python benchmarks/fuzz_run_folder.py --count 10000
	$(BIN)/python benchmarks/kill_run.py --points 20

SANITIZERS := -g -fsanitize=address,undefined -fno-sanitize-recover=undefined

sanitize: $(STAMP)-dev ## Tests of the C code under the sanitizers of addresses and of undefined behavior
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	  ASAN_OPTIONS=detect_leaks=0 CURVAE_CACHE=$$(mktemp -d) CC="env LD_PRELOAD= $(CC) $(SANITIZERS)" \
	  $(BIN)/python tests/sanitized.py $(CODE)

bench: $(STAMP)-run ## Compare a training epoch with a bare PyTorch loop
	$(BIN)/python benchmarks/training_overhead.py

format: $(STAMP)-dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what was built; .venv and runs stay
	rm -rf build dist docs/_build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
