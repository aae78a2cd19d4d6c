# SPDX-License-Identifier: Apache-2.0
# Every target makes what it needs first: a virtual environment, ROS 2 and this package's build (scripts/bootstrap.py).

SHELL := /bin/bash
PYTHON ?= python3
SOURCE ?= .build/photos
ARGS ?=
MINUTES ?= 10
DISTRO ?= kilted
bootstrap := $(PYTHON) scripts/bootstrap.py --distro $(DISTRO)
environment := source .build/$(if $(filter-out kilted,$(DISTRO)),$(DISTRO)/)environment.sh
# Each worker imports all tests, which takes twice as long where they must be compiled every time.
pytest := PYTHONDONTWRITEBYTECODE= python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test system stress lint build lock clean

help: ## show this list
	@echo 'rmpe_ros: multi-person pose estimation for ROS 2. Targets:'
	@sed -nE "s/^([a-z]+):[^#]*## (.*)/  make \1|\2/p" $(firstword $(MAKEFILE_LIST)) | column -t -s '|'

demo: ## photos of people through the real nodes, results in out/; SOURCE=file, folder or webcam:0
	@$(bootstrap) --with demo
	@$(environment) && rmpe demo --source "$(SOURCE)" $(ARGS)

test: ## ruff, mypy and all tests; ARGS='-k name -x' goes to pytest, DISTRO=jazzy is another ROS 2
	@$(bootstrap) --with test,train,demo
	@$(environment) && ruff check . && mypy && $(pytest) $(ARGS)

system: ## tests of the nodes, launch files and bags, which need no PyTorch; CI runs test, and this with DISTRO=jazzy
	@$(bootstrap) --with test,demo
	@$(environment) && $(pytest) test/system test/nodes test/launch test/io/bags $(ARGS)

stress: ## soak, overload, faults and fuzz of real nodes, figures printed; MINUTES=60 for the soak, 10 at most for the rest
	@$(bootstrap) --with test,demo
	@$(environment) && short=$$(( $(MINUTES) < 10 ? $(MINUTES) : 10 )) && \
	  for script in "soak $(MINUTES)" "overload $$short" "faults $$short" "fuzz $$short"; do \
	    set -- $$script && echo "== $$1, $$2 minutes" && \
	    python test/stress/$$1.py --minutes $$2 --photos .build/photos $(ARGS) || exit 1; \
	  done

lint: ## ruff and mypy only
	@$(PYTHON) scripts/bootstrap.py --only venv --with test
	@source .venv/bin/activate && ruff check . && mypy

build: ## the environment and the package, nothing else; then: source .build/environment.sh
	@$(bootstrap)
	@echo 'built; to use it in this shell: source .build/environment.sh'

lock: ## pin requirements/*.in anew in requirements/*.txt (needs uv)
	@$(PYTHON) scripts/lock.py

clean: ## remove .venv and .build
	@$(bootstrap) --clean
