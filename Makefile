# Commands of the course; `make` alone lists them. Works with GNU make 3.81 and newer.
PYTHON ?= python3
EDITION ?= course
LAB_ARGS ?=

PY := .venv/bin/python
# JupyterLab would ask on its first start whether it may fetch news.
SETTINGS := .venv/share/jupyter/lab/settings
QUIET := '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}'
FOLDERS := $(wildcard appendix_a_* ch01_* ch02_* ch03_* ch04_* ch05_* appendix_d_* \
    ch06_* ch07_* appendix_e_* ch08_*)
# In the order of the course, each lesson before its solutions and exercises.
NOTEBOOKS := $(foreach f,$(FOLDERS),$(wildcard $(f)/ch*.ipynb $(f)/appendix*.ipynb) \
    $(wildcard $(f)/solutions.ipynb $(f)/exercises.ipynb))
FIRST := $(firstword $(sort $(wildcard ch*/ch*.ipynb)) README.md)

# What would change a notebook's outputs without being part of it.
unexport MPLBACKEND
export COLUMNS := 80
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help lab fresh test test-threads site run promote tidy fetch textconv

help:
	@echo "make lab            open your copies in JupyterLab (EDITION=book: the book's texts and GPT-2)"
	@echo "make fresh          new copies beside yours, of what is newer (NOTEBOOK=...: of this one)"
	@echo "make test           check everything: style, promotion, unit tests, every notebook"
	@echo "make test-threads   every notebook again, with one thread and with two"
	@echo "make fetch          download what the book edition needs"
	@echo "make site           the course as static pages, in _site (STUDENTS=1: without solutions, in _site-students)"
	@echo "for authors:"
	@echo "make promote        rewrite what comes from notebooks: modules, exercises, glossary"
	@echo "make run            promote, then execute all notebooks in place (NOTEBOOKS=... for some)"
	@echo "make tidy           ruff's fixes and format, and the normal form of notebooks"

# A stamp is written only after its installation succeeded, so that a broken one starts again.
.venv/lab.stamp: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	  echo "The course needs Python 3.11 or newer, up to 3.14; $(PYTHON) is another version, or missing:"; \
	  $(PYTHON) --version; \
	  echo "Install one of these and name it: make lab PYTHON=python3.12"; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install -r requirements.txt || { \
	  echo 'See "When it does not start" in README.md.'; exit 1; }
	@mkdir -p $(SETTINGS) && echo $(QUIET) > $(SETTINGS)/overrides.json
	@touch $@

.venv/test.stamp: .venv/lab.stamp
	$(PY) -m pip install -e '.[test,site]'
	@touch $@

# `git diff` on a notebook shows source and text, not JSON.
textconv:
	@test ! -e .git || git config diff.ipynb.textconv "$(PY) tools/textconv.py" || \
	  echo "git could not be set up: its diff will show notebooks as JSON"

ifeq ($(EDITION),book)
lab fetch: export COURSE_DATA := book
lab fetch: export COURSE_MODEL := gpt2
else ifneq ($(EDITION),course)
$(error EDITION=$(EDITION) is unknown: use EDITION=course or EDITION=book)
endif

lab: .venv/lab.stamp textconv
	@$(PY) -m tools.my
	$(PY) -m jupyterlab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/my/$(FIRST) $(LAB_ARGS)

fresh: .venv/lab.stamp
	@$(PY) -m tools.my --fresh $(NOTEBOOK)

fetch: .venv/lab.stamp
	$(PY) -m shared.assets

test: .venv/test.stamp textconv
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m tools.normalize --check
	$(PY) -m tools.promote --check
	$(PY) -m tools.derive_exercises --check
	$(PY) -m tools.glossary --check
	$(PY) -m tools.lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -p tools

test-threads: .venv/test.stamp
	OMP_NUM_THREADS=1 $(PY) -m pytest $(NOTEBOOKS)
	OMP_NUM_THREADS=2 $(PY) -m pytest $(NOTEBOOKS)

site: .venv/test.stamp
	$(PY) -m tools.site $(if $(STUDENTS),--students)

promote: .venv/test.stamp
	$(PY) -m tools.promote
	$(PY) -m tools.derive_exercises
	$(PY) -m tools.glossary

run: promote
	env -u COURSE_DATA -u COURSE_MODEL $(PY) -m nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	$(PY) -m tools.normalize $(NOTEBOOKS)

tidy: .venv/test.stamp
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) -m tools.normalize
