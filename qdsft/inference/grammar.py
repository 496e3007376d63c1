"""The regular language of the completions that `Decomposition.parse` reads without a fault."""

from __future__ import annotations

MAX_STEPS = 20

# Rust's regex syntax. Line breaks, to Python's str.splitlines, are control characters, U+2028 and U+2029; a reference
# is # with decimal digits of any script.
_CHARACTER = r"[^#\p{Cc}\p{Zl}\p{Zp}]"
_NO_DIGIT = r"[^#\p{Nd}\p{Cc}\p{Zl}\p{Zp}]"
_FIRST = r"[^#\s\p{Cc}\p{Zl}\p{Zp}]"

COMMON_TEXT = f"{_CHARACTER}{{1,30}}"
"""Text that stands anywhere inside a step; llguidance keeps the mask of such tokens ready."""


def completion_pattern(lead: str = "", tail: str = "", max_steps: int = MAX_STEPS) -> str:
    """A pattern, in the syntax of Rust's regex crate, of what `Decomposition.render` writes for 1 to `max_steps` steps.

    `lead` and `tail` are what a chat template puts around the answer; a model may leave the tail out. Whatever
    matches has none of the faults of `Decomposition.faults`: it is a list numbered 1, 2, 3, ..., no step is empty,
    and every `#k` in step n has 1 <= k < n. Steps may still repeat one another or the question.
    """
    pattern = ""
    for number in range(max_steps, 1, -1):
        pattern = rf"(?:\n{_step(number)}{pattern})?"
    return f"{_literal(lead)}{_step(1)}{pattern}(?:{_literal(tail)})?"


def _step(number: int) -> str:
    earlier = "|".join(str(k) for k in range(1, number))
    reference = f"(?:{earlier})?" if earlier else ""
    # What follows # or a reference may be no digit: it would make another reference.
    hash_sign = f"#{reference}(?:{_NO_DIGIT}{_CHARACTER}*)?"
    return rf"{number}\. (?:{_FIRST}{_CHARACTER}*|{hash_sign})(?:{hash_sign})*"


def _literal(text: str) -> str:
    return "".join(rf"\x{{{ord(character):X}}}" for character in text)
