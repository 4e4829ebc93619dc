# `make demo` and `make test` set up whatever they need; only Python >= 3.11 has to be there.

# The first that really runs: a shim of a version manager may exist and fail.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
VENV ?= .venv

.DEFAULT_GOAL := help
.PHONY: help demo test bench clean

help:
	@echo 'make demo    run the photo wall at http://127.0.0.1:8000/ (PORT=8080 for another port)'
	@echo 'make test    run every check and test'
	@echo 'make bench   race the workers against other job systems (about half an hour; QUICK=1 for two minutes)'
	@echo 'make clean   remove what these two have made: environments, data, caches'

demo: $(VENV)/.demo
	@exec $(VENV)/bin/python -m demo_project

test: $(VENV)/.dev
	@exec $(VENV)/bin/python tests/run

bench: $(VENV)/.bench
	@exec $(VENV)/bin/python bench/jobs.py $(if $(QUICK),--quick)

clean:
	test ! -L .run/postgres || rm -rf "$$(readlink .run/postgres)"
	rm -rf .venv .venv-* .run .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: installed again only when the list of packages has changed.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing the demo (the first time takes a minute or two) ...'
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing the demo and the test tools (the first time takes a minute or two) ...'
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $(VENV)/.demo $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Installing what the bench compares with (the first time takes a minute or two) ...'
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[demo,dev,bench]'
	@touch $(VENV)/.demo $(VENV)/.dev $@

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { echo 'No Python >= 3.11 found. Name one: make PYTHON=/path/to/python3'; exit 1; }
	@echo 'Making a virtual environment with $(PYTHON) in $(VENV) ...'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'That Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv'; exit 1; }
