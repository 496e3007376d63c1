"""Make steps self-contained: replace every `#n` by a phrase for the answer of step n.

For tools that do not substitute answers for references. The replacement cannot be undone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from qdsft.data.decomposition import REFERENCE, Decomposition, reference_number
from qdsft.errors import UserError

LONGEST_STEP = 10_000
"""Characters. A step that refers to its predecessor twice doubles its length, so a few steps could make gigabytes."""

_HANGUL = re.compile("[가-힣]")
_ENGLISH_QUESTION = re.compile(
    r"([Ww](ho|hom|hose|hat|hich|hen|here|hy|as|ere)|[Hh]ow|[Ii]s|[Aa]re|[Dd](o|oes|id)|[Cc](an|ould)"
    r"|will|would|should|may|might|must|has|have|had|if)\b"
)
"""The beginning of a question without a question mark. Words only in lower case here also begin names (Will, May)."""
_KOREAN_QUESTION = re.compile(r"(까|까요|나요|가요|인가|는가|은가|냐)\.?$")

_PARTICLES = (("은", "는"), ("이", "가"), ("을", "를"), ("과", "와"), ("으로", "로"), ("이나", "나"), ("이라", "라"))
"""(after a consonant, after a vowel); `로` also follows ㄹ."""
_PARTICLE = re.compile(
    "(?:(은|는|이|가|을|를)(?![가-힣])|(과|와|으로|로|이나|나|이라|라)(?=[^가-힣]|$|는|의|도|만|고|부터|써|서))"
)
_REFERENCE_AND_PARTICLE = re.compile(f"{REFERENCE.pattern}{_PARTICLE.pattern}?")


def without_references(decomposition: Decomposition, answers: Sequence[str | None] = ()) -> tuple[str, ...]:
    """Return the steps with all references replaced, recursively.

    A step that is a question becomes `the answer to “...”`, in Korean `“...”의 답`; a step that is a phrase, as in
    BREAK, is inserted unchanged. If `answers` has the answer of a step, the answer is inserted instead. Korean
    particles after a reference are fitted to the sound before them.

    Raises UserError for a decomposition that is not valid, and for a step over `LONGEST_STEP` characters.
    """
    if problems := decomposition.problems():
        raise UserError(f"{problems[0]}; references cannot be replaced")
    known = [*answers, *[None] * len(decomposition.steps)]
    done: list[str] = []
    for number, step in enumerate(decomposition.steps, start=1):
        korean = _is_korean(step)

        def phrase(match: re.Match[str], korean: bool | None = korean) -> str:
            index = int(match[1]) - 1
            text = known[index] or _noun_phrase(done[index], korean)
            return text + _particle(text, match[2] or match[3] or "")

        if _length(step, done) > LONGEST_STEP:
            message = f"step {number} would have over {LONGEST_STEP} characters once its references are replaced"
            raise UserError(f"{message}; shorten or remove the row")
        done.append(_REFERENCE_AND_PARTICLE.sub(phrase, step))
    return tuple(done)


def fill_references(step: str, answers: Mapping[int, str]) -> str:
    """Return a step with the answer of step n in place of `#n`, and nothing in place of one without an answer.

    Korean particles are fitted to the answer, or removed with their reference.
    """

    def answer(match: re.Match[str]) -> str:
        text = answers.get(reference_number(match[1]), "")
        return text + _particle(text, match[2] or match[3] or "") if text else ""

    return " ".join(_REFERENCE_AND_PARTICLE.sub(answer, step).split())


def has_hangul(text: str) -> bool:
    """Return whether a text has Korean letters."""
    return bool(_HANGUL.search(text))


def _is_korean(step: str) -> bool | None:
    """Return whether a step's own words are Korean; None if it has none, so that the step it refers to decides."""
    own = REFERENCE.sub("", step)
    if has_hangul(own):
        return True
    return False if any(character.isalpha() for character in own) else None


def _length(step: str, done: Sequence[str]) -> int:
    return len(step) + sum(len(done[int(number) - 1]) for number in REFERENCE.findall(step))


def _noun_phrase(text: str, korean: bool | None) -> str:
    text = text.strip()
    if not (text.endswith(("?", "？")) or _ENGLISH_QUESTION.match(text) or _KOREAN_QUESTION.search(text)):
        return text
    if korean is None:
        korean = has_hangul(text)
    return f"“{text}”의 답" if korean else f"the answer to “{text}”"


def _particle(before: str, particle: str) -> str:
    """Return the form of a particle that fits the last sound of `before`."""
    if not particle or not _HANGUL.fullmatch(before[-1:]):
        return particle
    final = (ord(before[-1]) - ord("가")) % 28
    for closed, opened in _PARTICLES:
        if particle in (closed, opened):
            vowel_form = final == 0 or (opened == "로" and final == 8)
            return opened if vowel_form else closed
    return particle
