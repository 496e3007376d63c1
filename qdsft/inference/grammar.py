"""The regular language of completions that `Decomposition.parse` reads without a fault."""

from __future__ import annotations

MAX_STEPS = 20

# Rust's regex syntax, without control characters, U+2028 and U+2029, which no answer needs; a reference is # with
# decimal digits of any script.
_CHARACTER = r"[^#\p{Cc}\p{Zl}\p{Zp}]"
_NO_DIGIT = r"[^#\p{Nd}\p{Cc}\p{Zl}\p{Zp}]"
_FIRST = r"[^#\s\p{Cc}\p{Zl}\p{Zp}]"

COMMON_TEXT = f"{_CHARACTER}{{1,30}}"
"""Text inside a step; llguidance precomputes the mask of such tokens."""


def completion_pattern(lead: str = "", tail: str = "", max_steps: int = MAX_STEPS) -> str:
    """Return a pattern, in the syntax of Rust's regex crate, for the rendered text of 1 to `max_steps` steps.

    `lead` and `tail` are the text that a chat template writes around the answer; the tail may be missing. A matching
    text has none of the faults of `Decomposition.faults`: steps are numbered 1, 2, 3, ..., no step is empty, and every
    `#k` in step n has 1 <= k < n. Steps may still repeat each other or the question.
    """
    pattern = ""
    for number in range(max_steps, 1, -1):
        pattern = rf"(?:\n{_step(number)}{pattern})?"
    return f"{_literal(lead)}{_step(1)}{pattern}(?:{_literal(tail)})?"


def _step(number: int) -> str:
    earlier = "|".join(str(k) for k in range(1, number))
    reference = f"(?:{earlier})?" if earlier else ""
    # No digit may follow # or a reference: it would make another reference.
    hash_sign = f"#{reference}(?:{_NO_DIGIT}{_CHARACTER}*)?"
    return rf"{number}\. (?:{_FIRST}{_CHARACTER}*|{hash_sign})(?:{hash_sign})*"


def _literal(text: str) -> str:
    return "".join(rf"\x{{{ord(character):X}}}" for character in text)
