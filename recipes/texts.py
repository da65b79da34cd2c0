"""Prompts and completions as the model reads them: through its chat template, and whole."""

from recipes.errors import InputError


def as_text(tokenizer, prompts: list[list[dict]], config) -> list[str]:
    """Prompts as the model reads them."""
    template = {**(config.chat_template_kwargs or {}), "add_generation_prompt": True, "tokenize": False}
    return [tokenizer.apply_chat_template(prompt, **template) for prompt in prompts]


def prompts_to_train_on(tokenizer, prompts: list[list[dict]], config) -> list[str]:
    """Prompts as text, without the token that the tokenizer itself puts in front of any text."""
    first = tokenizer.bos_token if tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id] else ""
    return [text.removeprefix(first) for text in as_text(tokenizer, prompts, config)]


def that_fit(
    tokenizer, rows: list[dict], completions: tuple[str, ...], max_length: int | None, what: str
) -> list[dict]:
    """`rows` whose `prompt` with each of `completions` is at most `max_length` tokens long: cut off, it teaches never
    to end. The others are counted; raises `InputError` where none is left."""
    if max_length is None:
        return rows

    def length(row: dict) -> int:
        return max(len(tokenizer(row["prompt"] + row[name])["input_ids"]) for name in completions)

    fitting = [row for row in rows if length(row) <= max_length]
    if not fitting:
        raise InputError(f"--max_length {max_length} is shorter than every {what}: raise it.")
    if len(fitting) < len(rows):
        print(f"warning: {len(rows) - len(fitting)} of {len(rows)} {what}s are longer than --max_length and left out.")
    return fitting


def end_of_turn(tokenizer, config) -> str:
    """What the chat template writes behind a completion.

    To train on a completion it is put behind the completion as it stands: a template that is asked to write the
    completion itself may drop its thoughts (DeepSeek-R1-Distill) or put an empty one in front (Qwen3).
    """
    turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "@@"}]
    template = {**(config.chat_template_kwargs or {}), "add_generation_prompt": False, "tokenize": False}
    turn = tokenizer.apply_chat_template(turn, **template)
    return turn.rpartition("@@")[2].strip()
