# Two commands do everything on a fresh machine with Python 3.10 or newer:
#   make book   sets up .venv, executes every chapter, builds the site and prints its address
#   make test   sets up .venv, then unit tests, every notebook, and the tests of the site
# Variables: PYTHON (which Python makes .venv), PIP_ARGS (more words for pip install, say an index of
# CPU-only wheels), EMLIB_PRESET (sizes of the chapters: smoke, pocket, colab, paper), EMLIB_SOLUTIONS
# (0: a book without the solutions of its exercises), PORT (of make serve),
# WORKERS (processes that share the tests; one a core, at most four, if unset), LAB_ARGS (more words for
# jupyter lab in make notebook, say --no-browser), NAME (of the experiment that make reproduce runs), FILES (notebooks
# that make validate runs, in place of those that have changed), COUNT and FUZZ (faults of each kind and command lines
# that make faults tries).

PYTHON ?= python3
PIP_ARGS ?=
PORT ?= 8000
WORKERS ?= auto
LAB_ARGS ?=
COUNT ?= 200
FUZZ ?= 10000
EMLIB_PRESET ?= pocket
EMLIB_SOLUTIONS ?= 1
export EMLIB_PRESET EMLIB_SOLUTIONS

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
READY := $(VENV)/.ready
BOOK := _build/$(EMLIB_PRESET)/_build
SITE := $(BOOK)/html
# A site with and one without solutions: one stamp goes with the other's site, so a switch builds anew.
BUILT := $(SITE)/.built$(EMLIB_SOLUTIONS:1=)
CACHE := $(BOOK)/.jupyter_cache
FRESH := $(CACHE)/.fresh
CHAPTERS := $(shell grep -l '^jupytext:' book/*.md)
NOTEBOOKS := $(CHAPTERS:.md=.ipynb)
EXTENSIONS := docstrings front heads policy solutions terms
PAGES := $(wildcard book/*.md) book/references.bib book/course.json _config.yml _toc.yml $(EXTENSIONS:%=tests/%.py) $(shell find book/assets -type f)
LIBRARY := $(wildcard emlib/*.py emlib/*/*.py) $(shell find data -type f)

# The notebooks' kernel is the one inside .venv, whatever the user has registered elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# Pages have no kernel, so widgets are drawn as frames that need none; make notebook shows the live ones.
export EMLIB_STATIC := 1

# Tests run in several processes, one thread each: on small pictures that is faster than threads. Each begins with its
# share of the files, so that what the tests of a file share is made once, and takes over from the others in the end.
PARALLEL := -n $(WORKERS) --maxprocesses 4 --dist worksteal
ALONE := OMP_NUM_THREADS=1 EMLIB_PRESET=smoke

.PHONY: book test setup site slides times notebook notebooks results reproduce validate audit lock serve check-links lint unit coverage nbval fresh site-tests faults clean distclean help
.DEFAULT_GOAL := help

help: ## lists these commands
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile
	@echo "All commands:"
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## /\1	/p' Makefile | awk -F '\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

book: site ## executes the chapters, builds the site and prints its address
	@echo "The book is built. Open it in a browser:  file://$(CURDIR)/$(SITE)/index.html"

# ---- setting up ----

# Not compiled: of 16,000 files Python compiles those that are used, when they are; all of them take half a minute.
setup: $(READY) ## makes .venv with all that the book and the tests need

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "This book needs Python 3.10 or newer, and $(PYTHON) isn't there or is older."; \
	  echo "Name a newer one, say:  make $(or $(MAKECMDGOALS),book) PYTHON=python3.11"; exit 1; }
	@test -x $(PY) || { echo "== Making the virtual environment $(VENV)"; $(PYTHON) -m venv $(VENV); } || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) can't make virtual environments (on Debian and Ubuntu: install python3-venv)."; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null
	@echo "== Installing emlib and what it needs into $(VENV): torch alone is some gigabytes, this takes minutes"
	@$(PY) -m pip install -qq --disable-pip-version-check --no-compile $(PIP_ARGS) -e '.[book,test]'
	@touch $@

# ---- the site ----

site: $(BUILT) ## builds the site, if a source has changed

# Executed chapters are kept in a cache, which looks at a chapter's code and at nothing else. So it is
# emptied when the library, the data or the installed packages change.
$(FRESH): $(LIBRARY) $(READY)
	@rm -rf $(CACHE)
	@mkdir -p $(CACHE)
	@touch $@

fresh: $(FRESH) ## empties the cache of executed chapters where library, data or packages have changed

# The stamp bears the time at which the build began: what is edited meanwhile is newer.
$(BUILT): $(PAGES) $(FRESH) | $(NOTEBOOKS)
	@echo "== Building the site at preset $(EMLIB_PRESET): $(words $(CHAPTERS)) chapters, executed where their code has changed"
	@rm -rf $(SITE) $(BOOK)/.doctrees
	@touch $(BOOK)/.begun
	@$(PY) tests/side_by_side.py $(CACHE) $(CHAPTERS)
	@$(BIN)/jupyter-book build . --path-output _build/$(EMLIB_PRESET) -W -n --keep-going
	@mv $(BOOK)/.begun $@

slides: site ## makes slides of the figures, to be shown in a browser
	@$(PY) tests/slides.py $(CACHE) _build/$(EMLIB_PRESET)/slides

times: site ## notes how long each chapter took to run, for the chapters' heads
	@$(PY) tests/times.py $(CACHE)

serve: site ## the site on localhost, built again when a source changes
	@$(PY) tests/serve.py $(SITE) --port $(PORT) --make $(MAKE)

# One way only: the text is the source, the notebook its twin without outputs. The Colab button opens
# the twin if it is there when the site is built, hence the order.
notebooks: $(READY) ## writes the chapters' first cell, their notebooks, and the README's addresses and times
	@$(PY) tests/twins.py
	@$(PY) tests/readme.py

$(NOTEBOOKS): | $(READY)
	@$(PY) tests/twins.py

results: $(READY) ## renews the list of recorded runs
	@$(PY) tests/recorded.py

notebook: $(READY) $(NOTEBOOKS) ## opens the chapters in JupyterLab
	@env -u EMLIB_STATIC $(BIN)/jupyter-lab --notebook-dir=book $(LAB_ARGS)

check-links: $(READY) $(NOTEBOOKS) ## asks every address in the text whether it answers; needs a network
	@$(PY) tests/links.py

# Reruns a recorded experiment at its own settings, beside the record, and holds its rows against it.
reproduce: $(READY) ## runs a recorded experiment anew and compares: make reproduce NAME=table-embedded-mask
	@$(PY) tests/reproduce.py $(NAME)

validate: $(READY) ## runs changed notebooks at preset smoke and says in words what failed: make validate FILES=...
	@$(ALONE) $(PY) tests/validate.py $(FILES)

# Strict: a package that nobody could ask about is a failure, not "no known weakness".
audit: $(READY) ## known weaknesses of the installed packages, and their licences; needs a network
	@$(PY) -m pip install -qq --disable-pip-version-check $(PIP_ARGS) pip-audit pip-licenses
	@$(PY) -m pip freeze --exclude-editable | sed 's/+.*//' > $(VENV)/installed.txt
	@$(PY) -m pip_audit --strict --disable-pip --no-deps -r $(VENV)/installed.txt
	@$(BIN)/pip-licenses --order=license

# What .venv holds keeps its version; what other systems and Pythons need besides gets today's.
lock: $(READY) ## writes requirements.lock, the very versions in .venv, for those who want the same; needs a network
	@$(PY) -m pip install -qq --disable-pip-version-check $(PIP_ARGS) uv
	@$(PY) -m pip freeze --exclude-editable > requirements.lock.new
	@$(BIN)/uv pip compile -q --universal --python-version 3.10 --extra book --extra test --no-header --no-annotate \
	  -o requirements.lock.new pyproject.toml || { rm -f requirements.lock.new; exit 1; }
	@{ echo "# The versions that the tests last ran with; made by: make lock. To install them:"; \
	  echo "# make setup PIP_ARGS='-c requirements.lock'"; cat requirements.lock.new; } > requirements.lock
	@rm requirements.lock.new

# ---- testing ----

test: $(READY) ## every test: lint, unit, nbval, site-tests
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory nbval
	@$(MAKE) --no-print-directory site-tests
	@echo "== All tests passed"

lint: $(READY) ## the form of the code and of the chapters' cells, who imports whom, types
	@echo "== Linting"
	@$(BIN)/ruff check emlib tests benchmarks
	@$(BIN)/ruff format --check emlib tests benchmarks
	@$(BIN)/ruff check --isolated --select E501 --line-length 88 book/*.ipynb
	@$(BIN)/lint-imports
	@$(BIN)/mypy emlib

unit: $(READY) ## tests of the library and of the project's frame
	@echo "== Unit tests"
	@$(ALONE) $(PY) -m pytest tests -q --ignore=tests/site $(PARALLEL)

coverage: $(READY) ## the unit tests once more, and whether they run at least 90 % of the library's lines
	@$(ALONE) $(PY) -m pytest tests -q --ignore=tests/site $(PARALLEL) --cov --cov-report=term:skip-covered --cov-fail-under=90

# What the notebooks put out is kept for the site at the same preset, which then has no chapter to run.
nbval: $(READY) ## runs every notebook at preset smoke
	@echo "== Running every notebook at preset smoke (nbval)"
	@$(MAKE) --no-print-directory EMLIB_PRESET=smoke fresh
	@$(ALONE) PYTHONPATH=tests $(PY) -m pytest -p keep_outputs --keep-outputs _build/smoke/_build/.jupyter_cache \
	  -q --nbval-lax --nbval-current-env --nbval-cell-timeout=1800 book/ $(PARALLEL) --dist loadfile

site-tests: $(READY) ## builds the site at preset smoke and tests its pages
	@echo "== The site, built at preset smoke, and its tests"
	@$(MAKE) --no-print-directory EMLIB_PRESET=smoke site
	@EMLIB_SITE=_build/smoke/_build/html $(PY) -m pytest tests/site -q $(PARALLEL)

faults: $(READY) ## kills, damages and starves runs, and tries bad command lines, by the thousand; hours: make faults COUNT=9
	@$(ALONE) $(PY) tests/faults --count $(COUNT) --fuzz $(FUZZ)

clean: ## removes the built sites
	rm -rf _build

distclean: clean ## removes .venv too
	rm -rf $(VENV)
