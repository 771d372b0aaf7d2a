# Needs Python 3.11 or newer and its venv module, nothing else. Another interpreter: make run PYTHON=python3.13
PYTHON ?= python3
STAGE ?= prod
PY := .venv/bin/python
# The name holds a checksum of what is to be installed: a changed requirement installs again, nothing else does.
INSTALLED := .venv/.installed-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d ' ' -f 1)

.PHONY: run test smoke lint package bench rehearse clean
.DEFAULT_GOAL := run

run: $(INSTALLED) ## start everything on this machine: PORT=8000, RESET=1 forgets what was there
	@exec $(PY) -m infra.local.run

test: lint ## every check that a change must pass
	@$(PY) -m pytest --numprocesses 2 --dist loadgroup
	@$(PY) -m infra.local.smoke

smoke: $(INSTALLED) ## the walk of a member, against a fresh instance on free ports
	@exec $(PY) -m infra.local.smoke

lint: $(INSTALLED)
	@$(PY) -m ruff check .

package: $(INSTALLED) ## build/$(STAGE)/: what CloudFormation deploys
	@$(PY) -m infra.package $(STAGE)

bench: $(INSTALLED) ## what a path costs, one JSON line per measurement: times, CPU, round trips, cold starts
	@exec $(PY) -m infra.bench

rehearse: package ## build/$(STAGE)/ deployed into the embedded AWS, and a purchase walked through it
	@exec $(PY) -m infra.local.rehearsal build/$(STAGE)

clean: ## forget builds, caches and the local state; .venv stays
	rm -rf build .local .pytest_cache .ruff_cache .hypothesis
	find app.py chalicelib infra tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Rolekeep needs Python 3.11 or newer; '$(PYTHON)' is not. Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(PY) || { echo "Making .venv"; $(PYTHON) -m venv .venv; }
	@echo "Installing what requirements-dev.txt names (once; a minute or less)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input -r requirements-dev.txt
	@rm -f .venv/.installed-* && touch $@
