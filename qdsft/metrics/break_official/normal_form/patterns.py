"""What the rules look for in a list of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.metrics.break_official.normal_form.spans import Span
from qdsft.metrics.break_official.normal_form.tokens import Ref, Token, Word


def is_noun(token: Token) -> bool:
    """Common or proper noun, or reference, by the tag."""
    return token.tag.startswith("NN")


def is_adposition(token: Token) -> bool:
    """Preposition or particle."""
    return token.pos in ("ADP", "PART")


def is_copula(tokens: Sequence[Token]) -> bool:
    """@@1@@ are, @@1@@ that are: exactly a reference, perhaps a determiner, and a form of "be"."""
    return (
        len(tokens) in (2, 3)
        and isinstance(tokens[0], Ref)
        and tokens[-1].lemma == "be"
        and (len(tokens) == 2 or tokens[1].pos == "DET")
    )


def described(tokens: Sequence[Token], place: int) -> Span | None:
    """The span of @@1@@ (that) are X, where X stands at `place`; None if that is not what stands before it."""
    return next(
        ((place - n, place + 1) for n in (2, 3) if place >= n and is_copula(tokens[place - n : place])),
        None,
    )


def is_below(token: Token, verb: Word) -> bool:
    """Return whether a token depends on the verb, directly or not. A reference always counts as dependent."""
    return isinstance(token, Ref) or verb.index in token.above


def condition_start(tokens: Sequence[Token]) -> int:
    """Where a condition on the first of two or more tokens starts: behind "that are", "that" or "are", else at once."""
    if [token.lemma for token in tokens[1:3]] == ["that", "be"]:
        return 3
    return 2 if tokens[1].lemma in ("that", "be") else 1
