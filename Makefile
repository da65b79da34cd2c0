# Every target sets itself up: the first one creates .venv from constraints.txt, later ones reuse it.
PYTHON ?= python3
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## list these targets
	@echo 'make <target> [ARGS="--flag value ..."]    trainers run on any task of recipes/tasks'
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

grpo-%: $(INSTALLED)  ## train with GRPO: make grpo-gsm8k, make grpo-word_problems
	@$(RUN) -m recipes.grpo --task $* $(ARGS)

ppo-%: $(INSTALLED)  ## train with PPO, same tasks and flags: make ppo-gsm8k
	@$(RUN) -m recipes.ppo --task $* $(ARGS)

test: $(INSTALLED)  ## lint, then run every test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest $(ARGS)

starter: $(INSTALLED)  ## rebuild the bundled starter model from nothing (CPU, under 10 minutes)
	$(RUN) -m recipes.starter.build $(ARGS)

bench-overhead: $(INSTALLED)  ## step time of the recipe against a bare GRPOTrainer, side by side
	$(RUN) benchmarks/step_overhead.py $(ARGS)

bench-ppo: $(INSTALLED)  ## memory and step time of PPO against GRPO and against TRL 1.12's PPOTrainer, side by side
	$(RUN) -m benchmarks.ppo $(ARGS)

bench-rewards: $(INSTALLED)  ## speed of the rewards against TRL's, side by side; needs GSM8K: ARGS="--dataset_name ..."
	$(RUN) -m benchmarks.rewards $(ARGS)

setup: $(INSTALLED)  ## only create .venv and install

clean:  ## delete .venv and caches; runs/ stays
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version) is too old; name a newer one: make PYTHON=python3.11 ..." >&2; exit 2; }
	@echo "Setting up .venv (once; a few minutes, mostly torch)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $@

.PHONY: help test starter bench-overhead bench-ppo bench-rewards setup clean
