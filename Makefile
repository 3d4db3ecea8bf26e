# One word a task. Everything a machine needs beyond Python, make and git is installed by these targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# A shim that leads nowhere (pyenv's) is no Python: each candidate must run.
PYTHON313 ?= $(shell for python in python3.13 $(HOME)/.pyenv/versions/3.13*/bin/python; do \
	"$$python" -c "" 2>/dev/null && command -v "$$python" && break; done)

.PHONY: help install demo test test-slow test-tools lint types bench chaos dashboards constraints clean

help:
	@echo "make demo        one whole two-party call on this machine, no account needed"
	@echo "make test        ruff, mypy and the tests (minutes); make test-slow: the rest"
	@echo "make bench       latency and CPU against the barest possible server, as ratios"
	@echo "make chaos       the fault tour: every fault x every phase of a call, words counted"
	@echo "make dashboards  write grafana/*.json anew from their source"
	@echo "make install     .venv with all that runs and tests it"
	@echo "make test-tools  Debian's tools that the deployment checks use"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,sphinx]'
	touch $@

install: $(STAMP)

# The demo needs neither linters nor test tools: a fresh machine hears it sooner.
$(VENV)/.installed-demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sphinx]'
	touch $@

demo: $(VENV)/.installed-demo
	$(BIN)/gateway demo $(if $(LIVE),--live)

lint: $(STAMP)
	$(BIN)/ruff check gateway tests grafana
	$(BIN)/ruff format --check gateway tests grafana

types: $(STAMP)
	$(BIN)/mypy

test: lint types
	$(BIN)/python -m pytest -m "not slow" -n auto
ifneq ($(PYTHON313),)
	test -x .venv313/bin/python || $(PYTHON313) -m venv .venv313
	.venv313/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	.venv313/bin/python -m pytest -m "not slow" -n auto --ignore tests/whole
endif

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

bench: $(STAMP)
	$(BIN)/python -m gateway.simulator.bench

chaos: $(STAMP)
	$(BIN)/python -m gateway.simulator.chaos

dashboards: $(STAMP)
	$(BIN)/python -m grafana.build

constraints: $(STAMP)
	{ echo "# What is run and tested, pinned. Made from the environment that passed the tests (\`make constraints\`)."; \
	  $(BIN)/python -m pip freeze --exclude-editable; } > constraints.txt

test-tools:
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  prometheus prometheus-alertmanager nginx-light chromium caddy systemd \
	  golang-go golang-github-masterminds-sprig-dev golang-k8s-sigs-yaml-dev

clean:
	rm -rf .venv .venv313 .mypy_cache .ruff_cache
