# Every target sets itself up: the first one creates .venv from constraints.txt, later ones reuse it.
PYTHON ?= python3
ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# make grpo-gsm8k LAUNCH="--num_processes 2": the flags of accelerate launch. Pipelines launch their stages so.
export LAUNCH
LAUNCHER = $(if $(LAUNCH),recipes.launch $(LAUNCH) -m )

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## list these targets
	@echo 'make <target> [ARGS="--flag value ..."] [LAUNCH="--num_processes 2"]    trainers run on any task of recipes/tasks'
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

grpo-%: $(INSTALLED)  ## train with GRPO: make grpo-gsm8k, grpo-word_problems, grpo-code
	@$(PY) -m $(LAUNCHER)recipes.grpo --task $* $(ARGS)

ppo-%: $(INSTALLED)  ## train with PPO, same tasks and flags: make ppo-gsm8k
	@$(PY) -m $(LAUNCHER)recipes.ppo --task $* $(ARGS)

dpo-%: $(INSTALLED)  ## train with DPO on the model's own samples, judged by rule: make dpo-gsm8k
	@$(PY) -m $(LAUNCHER)recipes.dpo --task $* $(ARGS)

sft-%: $(INSTALLED)  ## SFT on worked solutions, or on the best of ARGS="--samples runs/...": make sft-gsm8k
	@$(PY) -m $(LAUNCHER)recipes.sft --task $* $(ARGS)

rm-%: $(INSTALLED)  ## a reward model on pairs that rules have judged: make rm-gsm8k
	@$(PY) -m $(LAUNCHER)recipes.reward_model --task $* $(ARGS)

r1-zero-%: $(INSTALLED)  ## GRPO straight from the base model: make r1-zero-gsm8k
	@$(PY) -m recipes.r1 --pipeline r1_zero --task $* $(ARGS)

r1-%: $(INSTALLED)  ## DeepSeek-R1's pipeline, SFT -> GRPO -> rejection sampling -> SFT -> GRPO: make r1-gsm8k [FROM=stage]
	@$(PY) -m recipes.r1 --task $* $(if $(FROM),--from_stage $(FROM)) $(ARGS)

distill-%: $(INSTALLED)  ## a trained model teaches a fresh one; RL at equal compute beside it: make distill-gsm8k
	@$(PY) -m recipes.r1 --pipeline distill --task $* $(if $(FROM),--from_stage $(FROM)) $(ARGS)

overoptimize-%: $(INSTALLED)  ## proxy against truth, by KL weight (Gao et al., 2023): make overoptimize-word_problems
	@$(PY) -m recipes.overoptimize --task $* $(ARGS)

sample-%: $(INSTALLED)  ## sample a model and score every completion: make sample-gsm8k
	@$(PY) -m $(LAUNCHER)recipes.sample --task $* $(ARGS)

eval-%: $(INSTALLED)  ## pass@1, pass@k, maj@k of models side by side: make eval-gsm8k ARGS="--models a b c"
	@$(PY) -m $(LAUNCHER)recipes.evaluate --task $* $(ARGS)

report: $(INSTALLED)  ## a run's report.html anew, or several side by side: make report RUN=runs/a, RUNS="runs/a runs/b"
	@$(PY) -m recipes.report $(RUN) $(RUNS) $(ARGS)

merge: $(INSTALLED)  ## merge a run's adapter into full weights: make merge RUN=runs/grpo-gsm8k
	@$(PY) -m recipes.merge $(if $(RUN),--model_name_or_path $(RUN)) $(ARGS)

test: $(INSTALLED)  ## lint, then run every test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

test-faults: $(INSTALLED)  ## kill, stop and fill up: GRPO, PPO and DPO at 20 random moments each (some 20 minutes)
	FAULTS=$(or $(FAULTS),20) $(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal -m faults $(ARGS)

starter: $(INSTALLED)  ## rebuild the bundled starter model from nothing (CPU, under 10 minutes)
	$(PY) -m recipes.starter.build $(ARGS)

bench-overhead: $(INSTALLED)  ## step time of the recipe against a bare GRPOTrainer, side by side
	$(PY) benchmarks/step_overhead.py $(ARGS)

bench-ppo: $(INSTALLED)  ## memory and step time of PPO against GRPO and against TRL 1.12's PPOTrainer, side by side
	$(PY) -m benchmarks.ppo $(ARGS)

bench-rewards: $(INSTALLED)  ## speed of the rewards against TRL's, side by side; needs GSM8K: ARGS="--dataset_name ..."
	$(PY) -m benchmarks.rewards $(ARGS)

bench-code: $(INSTALLED)  ## executions per second of the code reward's sandbox against bare subprocess.run, side by side
	$(PY) -m benchmarks.code_reward $(ARGS)

bench-sample: $(INSTALLED)  ## completions per second of the sampler against a bare generate loop, side by side
	$(PY) -m benchmarks.sample $(ARGS)

bench-report: $(INSTALLED)  ## time, memory and size of the report of a run of 1,000 steps
	$(PY) -m benchmarks.report $(ARGS)

bench-live: $(INSTALLED)  ## what the live panel takes of a training step
	$(PY) -m benchmarks.live_panel $(ARGS)

bench-gpu: $(INSTALLED)  ## memory and tokens per second on cards of 8 to 24 GB; a tiny model without a GPU
	$(PY) -m benchmarks.gpu $(ARGS)

setup: $(INSTALLED)  ## only create .venv and install

clean:  ## delete .venv and caches; runs/ stays
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version) is too old; name a newer one: make PYTHON=python3.11 ..." >&2; exit 2; }
	@echo "Setting up .venv (once; a few minutes, mostly torch)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $@

.PHONY: help test test-faults starter bench-overhead bench-ppo bench-rewards bench-sample bench-code bench-report bench-live bench-gpu report merge setup clean
