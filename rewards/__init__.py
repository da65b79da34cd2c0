"""Rule-based rewards for TRL trainers. Importing them loads no torch, transformers, trl or datasets."""

from rewards.answers import extract_answer, is_equivalent
from rewards.correctness import correctness_reward
from rewards.format import think_format_reward

__all__ = ["correctness_reward", "extract_answer", "is_equivalent", "think_format_reward"]
