# make demo and make test each work on a fresh machine: they create .venv if needed, install, and do their job.
# PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test unit lint portraits champion speed clean

demo: .venv/installed
	$(BIN)/agesearch demo

test: unit
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/e2e tests/ray

unit: .venv/installed-dev
	$(BIN)/pytest -n auto tests/unit

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "agesearch needs Python 3.11, 3.12 or 3.13: install one, or set PYTHON."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: PACKAGE = .
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(install)
	touch $@

.venv/installed-dev: PACKAGE = .[dev,synth]
.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(install)
	touch $@ .venv/installed

# Two OpenCV wheels write the same folder, and the one that imagecorruptions asks for needs a screen library (libGL):
# only the headless wheel may stay.
define install
	@echo "Installing (about 3 minutes and 7 GB the first time) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(PACKAGE)'
	@if $(BIN)/python -m pip show --quiet opencv-python 2>/dev/null; then \
		$(BIN)/python -m pip uninstall --quiet --yes opencv-python && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
			-c constraints.txt opencv-python-headless; fi
endef

# The report of a study on portraits, from photographs to the page: reports/portraits/README.md.
portraits: .venv/installed-dev
	AGESEARCH=$(abspath $(BIN))/agesearch reports/portraits/remake.sh

# The published model 'portraits', from photographs to the version: reports/champion/README.md.
champion: .venv/installed-dev
	AGESEARCH=$(abspath $(BIN))/agesearch reports/champion/remake.sh

# The speed of a small student beside large networks, from its teacher on: reports/speed/README.md.
speed: .venv/installed-dev
	AGESEARCH=$(abspath $(BIN))/agesearch reports/speed/remake.sh

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demo-run
