# Every target makes what it needs, the environment included, from nothing but $(PYTHON).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
STAMP := $(VENV)/.installed
OUT ?= runs/demo

.PHONY: demo test lint types ci clean

demo: $(RUNTIME)
	$(BIN)/aivc demo --out $(OUT)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

ci: test lint types

clean:
	rm -rf $(VENV) build dist *.egg-info

# What the package needs to run; pip shows its progress. A first installation downloads about 1 GB and takes minutes.
$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing aivc-graph and what it needs into $(VENV)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(STAMP): $(RUNTIME)
	@echo "installing development tools into $(VENV)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
