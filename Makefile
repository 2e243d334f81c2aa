# Every target installs what it needs. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  := torch torchvision

BENCHMARKS  := step distil sweep scale
SEARCHES    := search search_many quality
RESULTS     := benchmarks/RESULTS.md
CHAOS       := failures chaos termination sharing shared
METHOD      := data/method
SIDES       := data/sides
METHOD_DATA := fashion-mnist $(patsubst %,folder:%,$(wildcard data/cifar10-jpeg))

.DEFAULT_GOAL := help
.PHONY: help install install-test install-bench demo test fuzz chaos chaos-all gpu-check bench bench-method bench-sides lint ui constraints image-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable .
	@touch $@

# neurobench, norse and sinabs without what they require: the tests need none of it, torchaudio conflicts with torch, and
# sinabs wants an older nir. pbr, which sinabs imports, is in the extra.
$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test]'
	$(BIN)/pip install --quiet --no-deps 'neurobench>=2.3,<3' 'norse>=1.1,<2' 'sinabs>=3.1,<4'
	@touch $@

install: $(VENV)/.installed  ## create .venv with the supersnn command

install-test: $(VENV)/.installed-test

# spikingjelly requires packages that its neurons do not import, such as torchaudio, which conflicts with torch.
$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --no-deps 'spikingjelly>=2,<3'
	$(BIN)/pip install --quiet 'loguru>=0.7'
	@touch $@

install-bench: $(VENV)/.installed-bench  ## add the libraries that the benchmarks compare with

demo: install  ## run a real sweep on handwritten digits, in a few minutes
	$(BIN)/supersnn sweep configs/digits.yaml

test: install-test lint  ## linter, types, import contracts, unit tests, a small sweep
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not chaos'

fuzz: install-test  ## mutate sweep files, stores, images and the environment; at most 15 minutes
	$(BIN)/python -m tests.fuzz --minutes 15

chaos: install-test  ## kill and terminate drivers, break workers, nodes and the object store, in real sweeps
	$(BIN)/python -m pytest -n 2 --dist loadfile -m chaos -k 'not every_node_is_sick' $(CHAOS:%=tests/end_to_end/test_%.py)

chaos-all: install-test  ## the same one after the other, and drivers that are steered meanwhile
	$(BIN)/python -m pytest -m chaos tests/end_to_end

gpu-check:  ## check all that runs on a GPU, with the method's own requirements and pytest; at most 7 minutes
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m tests.gpu --json gpu-check.json $(GPU_CHECK)

bench: install-bench  ## run the benchmarks one after another; hours, on an otherwise idle machine
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --write $(RESULTS) || exit 1; done
	for name in $(SEARCHES); do $(BIN)/python -m benchmarks.$$name --folder data/$$name --write $(RESULTS) || exit 1; done

bench-method: install  ## arms with and without a teacher, paired by seed; hours, can be interrupted and continued
	$(BIN)/python -m benchmarks.method --folder $(METHOD) --data $(METHOD_DATA) --write $(RESULTS)

bench-sides: install  ## features and relations at equal sides; an hour or more a data set, can be interrupted and continued
	$(BIN)/python -m benchmarks.sides --folder $(SIDES) --data $(METHOD_DATA)
	$(BIN)/python -m benchmarks.sides --keep $(SIDES) --write $(RESULTS)

lint: install-test  ## linter, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: install  ## open the MLflow UI of the store
	$(BIN)/supersnn ui

constraints: install-test  ## pin the image's packages to the versions in .venv
	$(BIN)/pip install --quiet --editable '.[gpu]'
	$(BIN)/pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' | sed -E 's/\+[a-z0-9.]+$$//' > deploy/constraints.txt

image-check:  ## build and check the image without a container engine (needs root, debootstrap)
	$(PYTHON) deploy/image_check.py $(IMAGE_CHECK)

clean:  ## remove the virtual environment and the caches, never the store
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
