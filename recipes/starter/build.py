"""Build the bundled starter model from nothing, on a CPU, in under ten minutes: `make starter`.

A Qwen3 of under 1M parameters with a word-level tokenizer is trained on word problems answered in three
styles. Most answers come without a thought, so that a fresh starter knows how to think but seldom does, and
reinforcement learning has something true to find: the thought-out answers are the right ones.
"""

import argparse
import itertools
import random
import re
from pathlib import Path

from datasets import IterableDataset
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, set_seed
from trl import SFTConfig, SFTTrainer

from recipes.tasks.word_problems import ITEMS, NAMES, TEMPLATES, generate

# A space belongs to the word after it; digits stand alone, so that numbers are read digit by digit.
PIECES = r" ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]|\s"

# The system message is for models that do not know the format yet; the starter was built with it.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '<|user|>' + message.content }}
{%- elif message.role == 'assistant' %}{{ '<|assistant|>' }}
{%- generation %}{{ message.content + '<|end|>' }}{%- endgeneration %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""


BATCH = 64


def build_tokenizer() -> PreTrainedTokenizerFast:
    text = " ".join([*(words for _, _, words in TEMPLATES), *NAMES, *ITEMS])
    words = {piece.strip() for piece in re.findall(PIECES, re.sub(r"{\w+}", " ", text))}
    pieces = sorted({prefix + word for word in words | set("+-*=.") for prefix in ("", " ")} | set("0123456789 "))
    vocabulary = {piece: index for index, piece in enumerate(["<|pad|>", "<|unknown|>", *pieces])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.decoder = decoders.Fuse()
    # Not special: TRL decodes with skip_special_tokens=True, and the rewards must see these tags.
    tags = ["<think>", "</think>", "<answer>", "</answer>"]
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        unk_token="<|unknown|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=32,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def lessons(seed: int, rows: int):
    """Worked examples: first mostly thought out, to learn to calculate; in the last third mostly answered directly."""
    rng = random.Random(seed)
    for row, problem in enumerate(itertools.islice(generate(seed), rows)):
        steps, answer = problem["answer"].split("\n#### ")
        direct = f"<answer>{answer}</answer>"
        reasoned = f"<think>{steps}</think>{direct}"
        weights = [60, 25, 15] if row < rows * 2 / 3 else [30, 50, 20]
        yield {
            "prompt": [{"role": "user", "content": problem["question"]}],
            "completion": [{"role": "assistant", "content": rng.choices([reasoned, direct, answer], weights)[0]}],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--max_steps", type=int, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    set_seed(args.seed)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    options = {"seed": args.seed, "rows": args.max_steps * BATCH}
    rows = IterableDataset.from_generator(lessons, gen_kwargs=options)
    trainer = SFTTrainer(
        model,
        train_dataset=rows,
        processing_class=tokenizer,
        args=SFTConfig(
            output_dir=args.output_dir,
            max_steps=args.max_steps,
            per_device_train_batch_size=BATCH,
            learning_rate=2e-3,
            lr_scheduler_type="cosine",
            warmup_steps=100,
            weight_decay=0.01,
            max_length=None,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=100,
            save_strategy="no",
            report_to="none",
            seed=args.seed,
        ),
    )
    trainer.train()
    model.save_pretrained(args.output_dir)
    tokenizer.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
