# make repro: images in, a report and ONNX decoders out · make test · make check · make bench
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: setup repro test check bench
setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python must be at least 3.11, but got " + sys.version)'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[pipeline,dev]'
	touch $@

repro: setup
	dvc repro

test: setup
	pytest

check: setup
	ruff check .
	ruff format --check .
	mypy

bench: setup
	python -m benchmarks
