"""The bundled miniature: small, readable by the rewards, and able to think though it seldom does."""

from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.hardware import STARTER_FOLDER
from recipes.starter.build import build_model, build_tokenizer
from recipes.tasks.word_problems import generate

tokenizer = AutoTokenizer.from_pretrained(STARTER_FOLDER)


def test_it_has_under_a_million_parameters_and_four_megabytes():
    model = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER)
    assert model.num_parameters() < 1_000_000
    assert sum(file.stat().st_size for file in STARTER_FOLDER.iterdir()) < 4_000_000
    assert (STARTER_FOLDER / "model.safetensors").exists()


def test_the_script_builds_the_tokenizer_and_the_shape_that_are_shipped():
    built = build_tokenizer()
    assert built.get_vocab() == tokenizer.get_vocab()
    assert built.chat_template == tokenizer.chat_template
    shipped = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER)
    assert build_model(built).num_parameters() == shipped.num_parameters()


def test_the_tags_are_single_tokens_that_decoding_keeps():
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        ids = tokenizer.encode(tag, add_special_tokens=False)
        assert len(ids) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == tag


@given(st.integers(0, 10_000), st.booleans())
def test_every_problem_and_its_solution_survive_the_tokenizer(seed, held_out):
    row = next(generate(seed, held_out=held_out))
    steps, answer = row["answer"].split("\n#### ")
    for text in (row["question"], f"<think>{steps}</think><answer>{answer}</answer>", answer):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_digits_are_single_tokens():
    assert len(tokenizer.encode("1234567890", add_special_tokens=False)) == 10


def test_the_template_leaves_the_system_message_out_and_ends_where_the_answer_begins():
    messages = [{"role": "system", "content": "Think."}, {"role": "user", "content": "How many"}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered == "<|user|>How many<|assistant|>"
    whole = tokenizer.apply_chat_template(
        [*messages, {"role": "assistant", "content": "1"}], tokenize=False, add_generation_prompt=False
    )
    assert whole == rendered + "1<|end|>"
