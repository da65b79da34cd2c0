"""TRL 1.12.0's own PPOTrainer on the starter: benchmarks/ppo.py installs it and runs this in its environment.

    benchmarks/.trl-1.12/bin/python -m benchmarks.ppo_trl_1_12 10 0 42 </dev/null    # steps, shortest completion, seed

That trainer takes tokenized prompts, and asks a reward model's backbone and score head, never a function: here these
two are the rules in disguise, so that no reward model is loaded or run. What else differs from ours: the weights under
the policy's LoRA are float32, on a CPU as fast as 4 bits and at this size no heavier, and the critic is a second whole
model, trained in full, as `peft_config` is for the policy alone.
"""

import json
import resource
import sys
import tempfile
import time
from types import SimpleNamespace

import psutil
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

from recipes.hardware import COMPLETIONS_PER_STEP, STARTER_FOLDER, STARTER_TRAINING
from recipes.tasks import load_task

TASK = load_task("word_problems")


class Rules(torch.nn.Module):
    """The task's rewards as the trainer's `get_reward` calls a model: `score(backbone(...).hidden_states[-1])`.

    All that reaches a backbone is the ids, padding as 0, and their mask: the prompt itself has to tell the gold answer.
    """

    base_model_prefix = "backbone"

    def __init__(self, tokenizer, golds: dict[tuple[int, ...], str]):
        super().__init__()
        self.tokenizer, self.golds, self.tokens = tokenizer, golds, []
        self.opens = tokenizer.convert_tokens_to_ids("<|assistant|>")

    def backbone(self, input_ids, attention_mask, **kwargs):
        completions, golds, tokens = [], [], 0
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            ids = ids[mask].tolist()
            prompt = ids.index(self.opens) + 1
            golds.append(self.golds[tuple(ids[:prompt])])
            completions.append(self.tokenizer.decode(ids[prompt:], skip_special_tokens=True))
            tokens += len(ids) - prompt
        self.tokens.append(tokens)
        rewards = torch.zeros(len(golds))
        for function, weight in zip(TASK.reward_funcs, TASK.reward_weights, strict=True):
            rewards += weight * torch.tensor(function(completions=completions, answer=golds))
        # The trainer picks the score at the last token: every token gets it.
        return SimpleNamespace(hidden_states=[rewards.view(-1, 1, 1).expand(*input_ids.shape, 1)])

    def score(self, hidden_states):
        return hidden_states


class Steps(TrainerCallback):
    """What each step takes, by the clock and by the processor; it takes turns as that of benchmarks/ppo.py does."""

    def __init__(self):
        self.seconds, self.cpu_seconds = [], []

    def on_train_begin(self, args, state, control, **kwargs):
        print("@", flush=True)
        sys.stdin.readline()
        self.began = time.perf_counter(), time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.began[0])
        self.cpu_seconds.append(time.process_time() - self.began[1])
        self.on_train_begin(args, state, control)


def main() -> None:
    steps, min_tokens, seed = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)
    rows, _ = TASK.load(None, None, seed)
    prompts = [
        tokenizer.apply_chat_template(TASK.prompt(question), add_generation_prompt=True, return_dict=False)
        for question in rows["question"]
    ]
    rules = Rules(tokenizer, {tuple(ids): answer for ids, answer in zip(prompts, rows["answer"], strict=True)})
    policy = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER, dtype="float32")
    policy.generation_config.min_new_tokens = min_tokens or None
    taken = Steps()
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=folder,
                learning_rate=0.0,
                lr_scheduler_type="constant",
                total_episodes=steps * COMPLETIONS_PER_STEP,
                per_device_train_batch_size=COMPLETIONS_PER_STEP,
                response_length=STARTER_TRAINING["max_completion_length"],
                stop_token="eos",
                temperature=1.0,
                num_ppo_epochs=1,
                num_mini_batches=1,
                num_sample_generations=0,
                gradient_checkpointing=False,
                use_cpu=True,
                bf16=False,
                optim="adamw_torch",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=seed,
            ),
            processing_class=tokenizer,
            model=policy,
            ref_model=None,  # the policy without its adapter
            reward_model=rules,
            value_model=AutoModelForSequenceClassification.from_pretrained(
                STARTER_FOLDER, dtype="float32", num_labels=1
            ),
            train_dataset=Dataset.from_dict({"input_ids": prompts}),
            peft_config=LoraConfig(
                r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[taken],
        )
        loaded = psutil.Process().memory_info().rss / 2**20
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    found = vars(taken) | {"tokens": rules.tokens, "loaded_mb": loaded, "peak_mb": peak}
    print("\n@" + json.dumps(found))


if __name__ == "__main__":
    main()
