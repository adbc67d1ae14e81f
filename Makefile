# gaze_lightning. `make` alone explains itself.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

EXP ?=
DATA ?= phantom
DATA_ROOT ?=
SETTING ?=
SEED ?=
TRAINER ?= auto
LOGGER ?= csv
RUN ?=
CKPT ?= best
IMAGES ?=
PRETRAINED ?=
SWEEP ?=
ID ?=
COUNT ?=
ONLY ?=
ROOT ?= data/phantom
ARGS ?=
BENCH ?= saliency cache loader triplet multimatch positives
VENV ?= .venv
PYTHON ?= python3
# One thread per process: two on shared cores were seen 8 to 22 times slower. Free cores: THREADS=2.
THREADS ?= 1

HERE := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
PY := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
GAZE := OMP_NUM_THREADS=$(THREADS) $(PY) -m gaze_lightning
SOURCE = $(if $(EXP),--config $(EXP)) --config data/$(DATA) $(if $(SETTING),--config setting/$(SETTING)) $(if $(DATA_ROOT),'--data.init_args.root=$(DATA_ROOT)')
LAYERS := --config $(EXP) --config data/$(DATA) --config trainer/$(TRAINER) --config logger/$(LOGGER) \
	$(if $(SETTING),--config setting/$(SETTING)) $(if $(DATA_ROOT),'--data.init_args.root=$(DATA_ROOT)') \
	$(if $(PRETRAINED),'--model.init_args.pretrained=$(PRETRAINED)') \
	$(if $(SEED),--seed_everything=$(SEED)) $(if $(filter-out 1,$(THREADS)),--threads=$(THREADS))

# A variable or target that is misspelt, or a variable that the target does not take, must not pass in silence.
KNOWN := EXP DATA DATA_ROOT SETTING SEED TRAINER LOGGER RUN CKPT IMAGES ROOT PRETRAINED SWEEP ID COUNT ONLY BENCH ARGS VENV PYTHON THREADS MAKEFLAGS SHELL
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(KNOWN),$(GIVEN))
ifneq ($(UNKNOWN),)
$(error no variable is called $(UNKNOWN); there are: $(filter-out MAKEFLAGS SHELL,$(KNOWN)))
endif

TARGETS := help install known-experiment train resume test-model predict check-data cache relations preview phantom sweep agent list test test-fast lint format typecheck bench matrix clean
.PHONY: $(TARGETS)

ALL_TAKE := ARGS VENV PYTHON THREADS MAKEFLAGS SHELL
TAKES_known-experiment := EXP
TAKES_train := EXP DATA DATA_ROOT SETTING SEED TRAINER LOGGER PRETRAINED
TAKES_resume := RUN
TAKES_test-model := RUN CKPT
TAKES_predict := RUN CKPT IMAGES
TAKES_check-data := EXP DATA DATA_ROOT SETTING
TAKES_cache := $(TAKES_check-data)
TAKES_relations := $(TAKES_check-data)
TAKES_preview := $(TAKES_check-data)
TAKES_phantom := ROOT
TAKES_sweep := SWEEP SEED $(TAKES_check-data)
TAKES_agent := ID COUNT DATA_ROOT TRAINER PRETRAINED
TAKES_bench := BENCH
TAKES_matrix := ONLY
TAKEN := $(ALL_TAKE) $(foreach goal,$(MAKECMDGOALS),$(if $(filter $(goal),$(TARGETS)),$(TAKES_$(goal)),$(KNOWN)))
IGNORED := $(filter-out $(TAKEN),$(GIVEN))
ifneq ($(and $(MAKECMDGOALS),$(IGNORED)),)
$(error make $(MAKECMDGOALS) would ignore $(IGNORED); it takes: $(filter-out MAKEFLAGS SHELL,$(sort $(TAKEN))))
endif

help: ## this text
	@printf 'gaze_lightning: learning from eye gaze on chest X-rays\n\n'
	@grep -hE '^[a-z-]+:.*## ' $(HERE)Makefile | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@printf '\nVariables of train: EXP= DATA=phantom|egd_cxr|reflacx|joint|mimic_cxr|cxr_p|manifest DATA_ROOT=\n'
	@printf '                    SETTING=demo|paper SEED= TRAINER=auto|cpu|gpu|ddp|slurm\n'
	@printf '                    LOGGER=csv|tensorboard|wandb PRETRAINED=runs/...|file|true THREADS=1 VENV=.venv ARGS="--model.init_args.lr=1e-4 ..."\n'
	@printf 'of sweep and agent: SWEEP= DATA= SETTING= SEED=; ID= COUNT= and what belongs to a machine: DATA_ROOT= TRAINER= PRETRAINED=\n\nExperiments:\n'
	@for file in $(HERE)experiments/*.yaml; do printf '  %-45s %s\n' "$$(basename $$file .yaml)" "$$(head -n 1 $$file | sed 's/^# *//')"; done

install: $(RUNTIME) ## install into VENV (done by the other targets when needed)

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make ... PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt install python3-venv" >&2; exit 2; }

$(RUNTIME): pyproject.toml constraints.txt | $(PY)
	@echo "Installing into $(VENV): about 6 GB with torch, 2 to 5 minutes the first time ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dicom,wandb,tensorboard]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(RUNTIME)
	@echo "Installing the tools for tests into $(VENV) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,dicom,wandb,tensorboard]'
	@touch $@

known-experiment:
	@[ -n "$(EXP)" ] && [ -f "$(HERE)experiments/$(EXP).yaml" ] || \
		{ echo "make train EXP=<name>: no experiment is called '$(EXP)'. There are:" >&2; ls $(HERE)experiments | sed -n 's/\.yaml$$//p' >&2; exit 2; }

train: known-experiment $(RUNTIME) ## train, test and report: make train EXP=ggcam_resnet50
	$(GAZE) train $(LAYERS) $(ARGS)

resume: $(RUNTIME) ## go on with an interrupted run, in its folder: make resume RUN=runs/<experiment>/<run id>
	@[ -n "$(RUN)" ] || { echo "Which run? make resume RUN=runs/<experiment>/<run id>" >&2; ls -d runs/*/* >&2; exit 2; }
	$(GAZE) resume --run '$(RUN)' $(ARGS)

test-model: $(RUNTIME) ## test a finished run again: make test-model RUN=runs/<experiment>/<run id> [CKPT=best|last]
	@[ -n "$(RUN)" ] || { echo "Which run? make test-model RUN=runs/<experiment>/<run id>" >&2; ls -d runs/*/* >&2; exit 2; }
	$(GAZE) test --run '$(RUN)' --ckpt $(CKPT) $(ARGS)

predict: $(RUNTIME) ## predict a folder of films: make predict RUN=runs/... IMAGES=folder
	@[ -n "$(RUN)" ] && [ -n "$(IMAGES)" ] || { echo "make predict RUN=runs/<experiment>/<run id> IMAGES=<folder of PNG or JPG films>" >&2; exit 2; }
	$(GAZE) predict --run '$(RUN)' --ckpt $(CKPT) --images '$(IMAGES)' $(ARGS)

check-data: $(RUNTIME) ## read everything once and report what is wrong: make check-data DATA=egd_cxr DATA_ROOT=/data
	$(GAZE) check-data $(SOURCE) $(ARGS)

cache: $(RUNTIME) ## build the cache of resized films beforehand: make cache DATA=mimic_cxr DATA_ROOT=/data [EXP=...]
	$(GAZE) cache $(SOURCE) $(ARGS)

relations: $(RUNTIME) ## find the pairs of films that were looked at alike: make relations EXP=mcgip_moco_resnet50 [ARGS="--measure MultiMatch --tau 0.7"]
	$(GAZE) relations $(SOURCE) $(ARGS)

preview: $(RUNTIME) ## draw films with fixations and maps: make preview DATA=reflacx DATA_ROOT=/data ARGS="--cases 4"
	$(GAZE) preview $(SOURCE) $(ARGS)

phantom: $(RUNTIME) ## write the synthetic data set somewhere: make phantom ROOT=/tmp/phantom ARGS="--knobs.n_train 20"
	$(GAZE) phantom --root '$(ROOT)' $(ARGS)

sweep: $(RUNTIME) ## create a W&B sweep: make sweep SWEEP=ggcam_resnet50 DATA=reflacx [ARGS=--dry-run]
	@[ -n "$(SWEEP)" ] || { echo "Which sweep? make sweep SWEEP=<name>. There are:" >&2; for file in $(HERE)experiments/sweeps/*.yaml; do printf '  %-28s %s\n' "$$(basename $$file .yaml)" "$$(head -n 1 $$file | sed 's/^# *//')" >&2; done; exit 2; }
	$(GAZE) sweep '$(SWEEP)' $(SOURCE) $(if $(SEED),--seed_everything=$(SEED)) $(ARGS)

agent: $(RUNTIME) ## run trials of a sweep: make agent ID=<entity>/<project>/<id> [COUNT=10 TRAINER=gpu DATA_ROOT=/data]
	@[ -n "$(ID)" ] || { echo "Which sweep? make agent ID=<entity>/<project>/<id>, as make sweep printed it" >&2; exit 2; }
	$(GAZE) agent '$(ID)' $(if $(COUNT),--count $(COUNT)) --config trainer/$(TRAINER) $(if $(DATA_ROOT),'--data.init_args.root=$(DATA_ROOT)') \
		$(if $(PRETRAINED),'--model.init_args.pretrained=$(PRETRAINED)') $(if $(filter-out 1,$(THREADS)),--threads=$(THREADS)) $(ARGS)

list: $(RUNTIME) ## the experiments and layers
	@$(GAZE) list

test: $(DEV) ## run the tests (two processes, one thread each)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal $(ARGS)

test-fast: $(DEV) ## the tests without the slow and multi-process ones
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -m "not slow and not ddp" $(ARGS)

lint: $(DEV) ## style and the import rule
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(VENV)/bin/lint-imports

format: $(DEV) ## format the code
	$(PY) -m ruff format . && $(PY) -m ruff check --fix .

typecheck: $(DEV) ## mypy, strict
	$(PY) -m mypy

bench: $(DEV) ## benchmarks, each with a correctness check inside: make bench [BENCH=loader], outside the default: scaling, ddp_scaling, gpu, purity
	for name in $(BENCH); do OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m benchmarks.$$name $(ARGS) || exit; done

matrix: $(DEV) ## every experiment on two processes and on one, with a table: make matrix [ONLY=ggcam_resnet50] [ARGS=--tasks]
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m tests.matrix $(if $(ONLY),--only $(ONLY)) $(ARGS)

clean: ## remove caches of tools (never runs, data or the environment)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

%:
	@echo "no target is called '$@'. There are: $$(grep -hoE '^[a-z-]+:.*## ' $(HERE)Makefile | cut -d: -f1 | tr '\n' ' ')" >&2; exit 2
