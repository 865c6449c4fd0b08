# make run   environment, install, the demo on the embedded switch with a first call
# make test  both rings of tests; the second runs where a FreeSWITCH is found
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test check integration compare faults bench clean

run: $(VENV)/.installed
	@$(BIN)/exoflow demo --calls 1

test: $(VENV)/.installed
	$(BIN)/python -m pytest tests

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/lint-imports
	@for main in examples/*/exoflow.yaml; do $(BIN)/exoflow check -c $$main || exit 1; done

# fails where no FreeSWITCH is found, or anything of ring 2 is skipped; writes docs/integration-report.md
integration: $(VENV)/.installed
	EXOFLOW_RING2=required $(BIN)/python -m pytest tests/ring2 --report docs/integration-report.md

# every scenario on the embedded switch and on FreeSWITCH, and whether both tell the same of it
compare: $(VENV)/.installed
	cd tests && ../$(BIN)/python -m scenarios compare

# exoflow killed, starved, misled and replaced under load, and what came of it, counted; `make faults ONLY=replace` for one of them
faults: $(VENV)/.installed
	cd tests && ../$(BIN)/python -m faults $(ONLY)

# some five minutes, into bench/RESULTS.md; `make bench QUICK=1` takes the smallest size and writes nothing
bench: $(VENV)/.installed
	$(BIN)/python -m bench $(if $(QUICK),--quick)

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "exoflow needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make an environment: apt install python3-venv"; exit 1; }
	@echo "installing exoflow and what it needs into $(VENV) (a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -m compileall -q exoflow  # as pip does with what it copies: where Python writes none, each start would compile anew
	@touch $@

clean:
	rm -rf $(VENV) exoflow-demo build *.egg-info
