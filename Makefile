# Everything runs in .venv, which is made from $(PYTHON) on first use and again when a dependency changes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv/.installed-bench

.PHONY: demo test test-all test-portable check docs bench clean

demo: $(STAMP)
	$(BIN)/metamap demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/metamap results render --check README.md docs/*.md
	$(MAKE) --no-print-directory docs

# The documentation as a site, in site/. Any warning ends it; the variable silences an announcement of the theme.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --quiet --strict

# One torch thread per test process: more of them on the same cores only wait for one another.
# First a few of the portable tests as on an old CPU: docs/reproducibility.md.
test: $(STAMP)
	MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "portable and not slow" $(TELLING)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2

TELLING := $(addprefix tests/,agents/test_policies.py evaluation/test_evaluate.py evaluation/test_mappability.py mapper/test_mapper.py \
  hypernetworks/test_hypernetwork.py training/test_losses.py)

# What compares bits or learns something, with the arithmetic of other CPUs. Each line stops at the first failure.
test-portable: $(STAMP)
	$(PORTABLE)
	MKL_CBWR=COMPATIBLE $(PORTABLE)
	MKL_ENABLE_INSTRUCTIONS=AVX2 $(PORTABLE)
	ATEN_CPU_CAPABILITY=default $(PORTABLE)

PORTABLE := OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "portable and not slow" -n 2

test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest

bench: $(BENCH_STAMP)
	$(BIN)/python scripts/bench_engine.py
	$(BIN)/python scripts/bench_speed.py training
	$(BIN)/python scripts/bench_speed.py mapping
	$(BIN)/python scripts/bench_speed.py startup

clean:
	rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "metamap-rl needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	touch $@
