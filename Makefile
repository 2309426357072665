# Eight verbs. Environments are .venv and .venv-lowest; nothing outside the checkout is touched.
#
#   make demo     install what the command needs, run the built-in scenario `guizhou`, say where the report is
#   make test     the same with the test tools, and run the tests
#   make gate     a few scenarios against tests/gate.json (GATE_UPDATE=--update keeps new ones): every figure, and roughly what they cost
#   make slow     the tests that take longer, among them the README's figures against a run
#   make compose  docker-compose.yml brought up by an engine of its own, with stand-ins for the base images (root)
#   make lowest   the tests with the oldest versions that pyproject.toml admits, in an environment of their own
#   make check    formatting, lint, types, import rules
#   make clean    remove environments, caches and results/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
GATE := guizhou-pilot primary-crash

.PHONY: help demo test gate slow compose lowest check clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/installed
	@$(BIN)/tradebft run guizhou

test: $(VENV)/installed-test
	@$(BIN)/pytest -n 2

gate: $(VENV)/installed-test
	@$(BIN)/tradebft gate $(GATE) --against tests/gate.json --max-change work=60 $(GATE_UPDATE)

slow: $(VENV)/installed-test
	@$(BIN)/pytest -n 2 -m slow

compose: $(VENV)/installed-test
	@$(BIN)/pytest -m slow tests/service/test_compose.py

lowest:
	@$(PYTHON) -m venv --clear $(LOWEST) && $(LOWEST)/bin/pip install --quiet uv
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[test]'
	@$(LOWEST)/bin/pytest -n 2

check: $(VENV)/installed-dev
	@scripts/check

clean:
	rm -rf $(VENV) $(LOWEST) results build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# A stamp file each: installed again only when pyproject.toml has changed. The sources are installed in place.
$(VENV)/installed: pyproject.toml
	@$(call install,-e .)

$(VENV)/installed-test: pyproject.toml
	@$(call install,-e '.[test]')

$(VENV)/installed-dev: pyproject.toml
	@$(call install,-e '.[dev]')

# A venv whose creation was interrupted has no pip, and is completed; one that is whole is kept.
define install
set -e; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    || { echo "tradebft needs Python 3.11 or later as '$(PYTHON)'; name another one: make PYTHON=python3.12" >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
    || { echo "the venv module of $(PYTHON) is missing; on Debian: apt install python3-venv" >&2; exit 1; }; \
test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV); \
echo "installing tradebft into $(VENV)"; \
$(BIN)/python -m pip install -qq --disable-pip-version-check $(1); \
touch $@
endef
