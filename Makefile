# make demo    install everything into .venv, then speak the sample recording into out/demo
# make test    the tests that need no hardware, no GPU and no patience
# make hil     hardware in the loop, on emulated rigs: HIL_RIGS="my_face.toml" HIL_ARGS=--may-move for a real one
# make lint    ruff; make types: mypy; make setup: the installation alone
#
# PYTHON=python3.10 picks another interpreter (3.10 and 3.11 work).

PYTHON ?= $(firstword $(foreach p,python3.11 python3.10 python3,$(if $(shell $(p) -c 'pass' 2>/dev/null && echo yes),$(p))))
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TORCH  := $(shell sed -n 's/^ *"\(torch==[0-9.]*\)",/\1/p' pyproject.toml)
PIP    := $(BIN)/python -m pip --disable-pip-version-check
FOLDERS := assets cli envs hardware policies twin
HIL_RIGS ?= emulated:maestro emulated:dynamixel
DEMO   := assets/speech/sample.wav

# one picture at a time on few cores: thread pools of the libraries only get in each other's way
export PYOPENGL_PLATFORM ?= egl
export OMP_NUM_THREADS ?= 1

.DELETE_ON_ERROR:
.PHONY: demo test hil lint types setup system clean

demo: setup
	$(BIN)/facetwin speak $(DEMO) --out out/demo

test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

# each rig climbs the whole ladder, also if the one before it fell
hil: setup
	@status=0; for rig in $(HIL_RIGS); do echo "hil: $$rig"; \
	  $(BIN)/python -m pytest -m hil tests/hil --rig "$$rig" $(HIL_ARGS) || status=1; done; exit $$status

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy wants a folder facetwin/ on its path; the checkout has none, so links make one
types: setup
	@mkdir -p .pyroot/facetwin
	@for f in $(FOLDERS); do ln -sfn ../../$$f .pyroot/facetwin/$$f; done
	$(BIN)/mypy -p facetwin

setup: system $(STAMP)

system:
	@.ci/system-packages $(PYTHON)

# torch goes first and alone: a resolver that sees it among the rest may take the CUDA build, gigabytes
# of it. The stamp is written last, so that an installation that was cut off starts again.
$(STAMP): pyproject.toml Makefile | system
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -c 'import importlib.metadata as m; assert m.version("torch").split("+")[0] == "$(subst torch==,,$(TORCH))"' 2>/dev/null \
	  || $(PIP) install "$(TORCH)+cpu" 2>/dev/null \
	  || $(PIP) install --retries 1 --timeout 20 --extra-index-url https://download.pytorch.org/whl/cpu "$(TORCH)+cpu" 2>/dev/null \
	  || $(PIP) install "$(TORCH)"
	$(PIP) install -e '.[dev]'
	@touch $@

clean:
	rm -rf out build .pyroot .pytest_cache .mypy_cache .ruff_cache
