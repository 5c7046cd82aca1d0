# Two commands do everything on a fresh machine with Python 3.10 or newer:
#   make book   sets up .venv, executes every chapter, builds the site and prints its address
#   make test   sets up .venv, then unit tests, every notebook, and the tests of the site
# Variables: PYTHON (which Python makes .venv), PIP_ARGS (more words for pip install, say an index of
# CPU-only wheels), EMLIB_PRESET (sizes of the chapters: smoke, pocket, colab, paper).

PYTHON ?= python3
PIP_ARGS ?=
PORT ?= 8000
EMLIB_PRESET ?= pocket
export EMLIB_PRESET

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
READY := $(VENV)/.ready
SITE := _build/$(EMLIB_PRESET)/_build/html
BUILT := $(SITE)/.built
CHAPTERS := $(wildcard book/[0-9]*.md)
NOTEBOOKS := $(CHAPTERS:.md=.ipynb)
PAGE_SOURCES := $(wildcard book/*.md) book/references.bib _config.yml _toc.yml
SOURCES := $(PAGE_SOURCES) $(wildcard emlib/*.py emlib/*/*.py) \
  $(shell find book/assets data -type f 2>/dev/null)

# The notebooks' kernel is the one inside .venv, whatever the user has registered elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: book test setup site notebooks serve lint unit nbval site-tests clean distclean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,5s/^# \{0,1\}//p' Makefile
	@echo "Also: make setup, site, serve, notebooks, lint, clean (built sites), distclean (and .venv)"

book: site
	@echo "The book is built. Open it in a browser:  file://$(CURDIR)/$(SITE)/index.html"

# ---- setting up ----

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "This book needs Python 3.10 or newer, and $(PYTHON) isn't there or is older."; \
	  echo "Name a newer one, say:  make $(or $(MAKECMDGOALS),book) PYTHON=python3.11"; exit 1; }
	@test -x $(PY) || { echo "== Making the virtual environment $(VENV)"; $(PYTHON) -m venv $(VENV); } || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) can't make virtual environments (on Debian and Ubuntu: install python3-venv)."; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null
	@echo "== Installing emlib and what it needs into $(VENV): torch alone is some gigabytes, this takes minutes"
	@$(PY) -m pip install -qq --disable-pip-version-check $(PIP_ARGS) -e '.[book,test]'
	@echo "== Fetching the weights that LPIPS needs, the last thing from the network"
	@$(PY) -m emlib weights
	@touch $@

# ---- the site ----

site: $(BUILT)

$(BUILT): $(SOURCES) | $(READY) $(NOTEBOOKS)
	@echo "== Executing $(words $(CHAPTERS)) chapters at preset $(EMLIB_PRESET) and building the site"
	@rm -rf _build/$(EMLIB_PRESET)
	@$(BIN)/jupyter-book build . --path-output _build/$(EMLIB_PRESET) -W -n --keep-going
	@touch $@

serve: site
	@echo "Serving the book at http://localhost:$(PORT) until Ctrl-C"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory $(SITE)

# One way only: the text is the source, the notebook its twin without outputs. The Colab button opens
# the twin if it is there when the site is built, hence the order.
notebooks: $(READY)
	@$(PY) tests/twins.py

$(NOTEBOOKS): | $(READY)
	@$(PY) tests/twins.py

# ---- testing ----

test: $(READY)
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory nbval
	@$(MAKE) --no-print-directory site-tests
	@echo "== All tests passed"

lint: $(READY)
	@echo "== Linting"
	@$(BIN)/ruff check emlib tests benchmarks

unit: $(READY)
	@echo "== Unit tests"
	@EMLIB_PRESET=smoke $(PY) -m pytest tests -q --ignore=tests/site

nbval: $(READY)
	@echo "== Running every notebook at preset smoke (nbval)"
	@EMLIB_PRESET=smoke $(PY) -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout=300 book/

site-tests: $(READY)
	@echo "== The site, built at preset smoke, and its tests"
	@$(MAKE) --no-print-directory EMLIB_PRESET=smoke site
	@EMLIB_SITE=_build/smoke/_build/html $(PY) -m pytest tests/site -q

clean:
	rm -rf _build

distclean: clean
	rm -rf $(VENV)
