# make repro: images in, a report and ONNX decoders out · make quick: a first look in less than two minutes · make lecture: more models · make submit: the same, trained on a cluster · make page: what latentmill serve needs · make test · make test-all · make check · make faults · make bench · make gpu · make calibration · make lock
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# DVC asks for the user's name, which a number that a container runs as may not have.
export LOGNAME := $(or $(LOGNAME),$(USER),$(shell id -u))

CLUSTER := $(VENV)/cluster
SERVERS := $(VENV)/servers
ORT := $(VENV)/onnxruntime
PAGE := src/latentmill/browser

# A thread of BLAS in each process of the tests: more would wait for one another. Ray's workers have the same priority as
# these, or sweeps would wait for all other tests.
TOGETHER := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 RAY_worker_niceness=0

.PHONY: setup repro quick page submit test test-all faults check bench gpu calibration examples lecture lock
setup: $(READY)
	@git rev-parse --git-dir > /dev/null 2>&1 || dvc config --local core.no_scm true # a copy without .git, as in an archive

# torch by pip, which also takes a build that this machine's pip.conf offers (a CPU one, say); the rest by uv, with hashes.
# Compiled once here, and with the next line our own code too: a stage starts several processes, and each would compile
# all that it imports, which took them longer than a short evaluation.
UV_INSTALL = $(VENV)/bin/uv pip install --python $(VENV)/bin/python --compile-bytecode --constraint requirements.lock
unexport PYTHONDONTWRITEBYTECODE

$(READY): pyproject.toml constraints.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python must be at least 3.11, but got " + sys.version)'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --constraint constraints.txt torch uv
	$(UV_INSTALL) --editable '.[pipeline,dev]'
	$(VENV)/bin/python -c 'from latentmill.project.plots import offline_plots; offline_plots()'
	touch $@

# the hashes of what constraints.txt pins
lock: setup
	$(VENV)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	    --custom-compile-command 'make lock' --constraint constraints.txt --all-extras pyproject.toml --output-file requirements.lock

# An environment on top of the rest, in the folder of a target.
define ON_TOP
$(VENV)/bin/python -m venv --clear $(@D)
cd $(@D)/lib/python*/site-packages && echo "import site; site.addsitedir('$$(realpath ../../../../lib/python*/site-packages)')" > beneath.pth
endef

# ray[default], for the cluster that the tests submit to: on top of the rest, where it slows no private Ray down.
$(CLUSTER)/.ready: $(READY)
	$(ON_TOP)
	$(CLUSTER)/bin/pip install --quiet --constraint constraints.txt 'ray[default]'
	touch $@

# What the tests have a server of: mlflow, and moto for S3. On top of the rest, as mlflow needs an older pyarrow.
$(SERVERS)/.ready: $(READY)
	$(ON_TOP)
	grep -iv '^pyarrow==' constraints.txt > $(SERVERS)/constraints.txt
	$(SERVERS)/bin/pip install --quiet --constraint $(SERVERS)/constraints.txt mlflow==3.17.2 'moto[server]==5.2.5'
	touch $@

# Of onnxruntime-web, the files that a browser loads for `latentmill serve`.
page: $(PAGE)/ort/.ready

$(PAGE)/ort/.ready: $(PAGE)/package.json $(PAGE)/package-lock.json
	rm -rf $(@D) && mkdir -p $(@D)/npm && cp $^ $(@D)/npm
	npm ci --prefix $(@D)/npm --ignore-scripts --silent
	cd $(@D) && mv npm/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs . && \
	    mv npm/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm . && rm -rf npm
	touch $@

repro: setup
	dvc repro
	latentmill check # fails if nothing could be exported

# the ladder of that name in ladders/, in a clone of this project, so that nothing here is replaced
lecture quick: setup
	test -d .latentmill/$@ || git clone --quiet . .latentmill/$@
	git -C .latentmill/$@ checkout --quiet --force && git -C .latentmill/$@ pull --quiet --ff-only
	cp ladders/$@.yaml .latentmill/$@/params.yaml
	cd .latentmill/$@ && dvc repro && latentmill check

# What the examples in Node and C++ need; where it is not there, their tests are skipped and say why.
examples: examples/node/node_modules/.ready $(ORT)/.ready

examples/node/node_modules/.ready: examples/node/package-lock.json
	npm ci --prefix examples/node --ignore-scripts --silent # its script would fetch CUDA
	touch $@

# onnxruntime laid out as in its release archives: headers from a package that ships them, the library of the one for Python.
$(ORT)/.ready: examples/cpp/headers.sha256 $(READY)
	rm -rf $(ORT) && mkdir -p $(ORT)/lib
	cd $(ORT) && npm pack --silent @qvac/onnx@0.15.1 && sha256sum --check --quiet $(CURDIR)/$<
	tar -xzf $(ORT)/*.tgz -C $(ORT) --strip-components=2 package/prebuilds/include/onnxruntime && rm $(ORT)/*.tgz
	ln -s $(CURDIR)/$(VENV)/lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.* $(ORT)/lib/libonnxruntime.so.1
	ln -s libonnxruntime.so.1 $(ORT)/lib/libonnxruntime.so
	touch $@

test: setup $(CLUSTER)/.ready $(if $(shell command -v npm 2>&1),examples/node/node_modules/.ready page)
	$(TOGETHER) pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# servers, whole runs and sweeps a second time
test-all: setup $(CLUSTER)/.ready $(SERVERS)/.ready $(if $(shell command -v npm 2>&1),examples/node/node_modules/.ready page)
	$(TOGETHER) pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder -m 'not faults'

# the cluster's dashboard: make submit ADDRESS=http://head:8265
submit: setup
	dvc repro prepare
	latentmill submit --address $(ADDRESS)
	dvc repro

faults: setup
	pytest tests/faults -m 'faults or not faults'

check: setup
	ruff check .
	ruff format --check .
	mypy

bench: setup
	$(UV_INSTALL) --editable '.[bench]'
	python -m benchmarks

# on a machine with a GPU, in at most 8 minutes: -> benchmarks/gpu.json, gpu.png
gpu: setup
	python -m benchmarks.gpu

# 200 repetitions of the verdicts on generators whose verdict is known: hours
calibration: setup
	python -m benchmarks.calibration
