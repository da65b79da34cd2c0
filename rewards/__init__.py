"""Rule-based rewards for TRL trainers. Importing them loads no torch, transformers, trl or datasets."""

from rewards.answers import extract_answer
from rewards.code import (
    async_code_reward,
    code_compiles_reward,
    code_reward,
    get_code_compiles_reward,
    get_code_reward,
)
from rewards.code_blocks import code_format_reward, get_code_format_reward
from rewards.correctness import correctness_reward, get_correctness_reward
from rewards.equivalence import is_equivalent
from rewards.exact_match import exact_match_reward
from rewards.format import get_think_format_reward, reasoning_steps_reward, tag_count_reward, think_format_reward
from rewards.language import get_language_consistency_reward, language_consistency_reward
from rewards.length import get_cosine_length_reward, get_overlong_penalty_reward, length_reward
from rewards.majority_vote import get_majority_vote_reward, majority_vote_reward
from rewards.multiple_choice import multiple_choice_reward
from rewards.repetition import get_repetition_penalty_reward, repetition_penalty_reward

__all__ = [
    "async_code_reward",
    "code_compiles_reward",
    "code_format_reward",
    "code_reward",
    "correctness_reward",
    "exact_match_reward",
    "extract_answer",
    "get_code_compiles_reward",
    "get_code_format_reward",
    "get_code_reward",
    "get_correctness_reward",
    "get_cosine_length_reward",
    "get_language_consistency_reward",
    "get_majority_vote_reward",
    "get_overlong_penalty_reward",
    "get_repetition_penalty_reward",
    "get_think_format_reward",
    "is_equivalent",
    "language_consistency_reward",
    "length_reward",
    "majority_vote_reward",
    "multiple_choice_reward",
    "reasoning_steps_reward",
    "repetition_penalty_reward",
    "tag_count_reward",
    "think_format_reward",
]
