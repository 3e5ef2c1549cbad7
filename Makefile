# make repro: images in, a report and ONNX decoders out · make submit: likewise, trained on a cluster · make test · make check · make faults · make bench
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: setup repro submit test faults check bench
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

# the cluster's dashboard: make submit ADDRESS=http://head:8265
submit: setup
	dvc repro prepare
	latentmill submit --address $(ADDRESS)
	dvc repro

faults: setup
	pytest tests/test_faults.py -m 'faults or not faults'

check: setup
	ruff check .
	ruff format --check .
	mypy

bench: setup
	python -m benchmarks
