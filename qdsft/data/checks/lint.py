"""Find what is odd about a row without making it unusable: one function for each check.

A check returns a message with the remedy, or None. When in doubt a check reports nothing, so that good rows raise no
warnings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qdsft.data.decomposition import REFERENCE
from qdsft.data.text import HANGUL, LATIN, main_script, normalise

_QUOTED = re.compile(
    # Bounded, so that a step of many opening brackets does not take quadratic time.
    r"\"[^\"]{,200}\"|“[^”]{,200}”|‘[^’]{,200}’|「[^」]{,200}」|『[^』]{,200}』|《[^》]{,200}》|〈[^〉]{,200}〉"
    r"|«[^»]{,200}»|\([^)]{,200}\)|(?<!\w)'[^']{,200}'(?!\w)"
)
_SPECIAL = re.compile(
    r"<[|｜][^<>\s]{1,60}[|｜]>|\[\|[^\[\]\s]{1,60}\|\]|<<?/?(?:s|bos|eos|pad|unk|mask|sys|think|tool_call|tool_response"
    r"|(?:start|end)_of_(?:turn|image)|image_soft_token|unused\d{1,4})>>?"
    r"|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT|PAD|BOS|EOS|UNK|CLS|SEP|MASK)\]",
    re.IGNORECASE,
)
_NEXT_QUESTION = re.compile(
    # A capital or a question word must follow: a name that ends in "?" in mid-sentence does not count.
    # It begins at the first of several marks, so that a long run of them does not take quadratic time.
    r"(?<![?？])[?？]+(?:\s+(?=[A-Z#]|(?:who|whose|whom|what|which|when|where|why|how)\b|[\u1100-\u11ff\uac00-\ud7a3])|(?<=？)(?=\w))"
)


@dataclass(slots=True)
class Texts:
    """The question and the steps of a row, with the forms that several checks need."""

    question: str
    steps: Sequence[str]
    normal_question: str
    normal_steps: list[str]
    """See `text.normalise`."""
    whole: str
    """All of the row's text."""

    @classmethod
    def of(cls, question: str, steps: Sequence[str]) -> Texts:
        """Compute the other fields."""
        normal_steps = [normalise(step) for step in steps]
        return cls(question, steps, normalise(question), normal_steps, "\n".join((question, *steps)))


def one_step(row: Texts) -> str | None:
    """Find a decomposition of one step."""
    return "there is one step only; split the question, or remove the row" if len(row.steps) == 1 else None


def step_repeats_question(row: Texts) -> str | None:
    """Find a step that equals the question, regardless of case, spacing, width and composition."""
    if row.normal_question not in row.normal_steps:
        return None
    same = [number for number, step in enumerate(row.normal_steps, start=1) if step == row.normal_question]
    return f"step {_listed(same)} repeats the question; split it further or remove it"


def repeated_step(row: Texts) -> str | None:
    """Find a step that equals an earlier one."""
    if len(set(row.normal_steps)) == len(row.normal_steps):
        return None
    first: dict[str, int] = {}
    pairs = ((number, first.setdefault(step, number)) for number, step in enumerate(row.normal_steps, start=1))
    number, earlier = next((number, earlier) for number, earlier in pairs if earlier != number)
    return f"step {number} repeats step {earlier}; remove it and refer to #{earlier}"


def unused_step(row: Texts) -> str | None:
    """Find a step, other than the last, whose answer no step uses, in a row that uses `#n`."""
    if "#" not in row.whole:
        return None
    used = {digits.lstrip("0") for digits in REFERENCE.findall("\n".join(row.steps))}
    unused = [number for number in range(1, len(row.steps)) if str(number) not in used] if used else []
    return f"no later step uses step {_listed(unused)}; refer to it as #n or remove it" if unused else None


def two_questions(row: Texts) -> str | None:
    """Find a step with two questions. Names in quotes or brackets that end in `?` do not count."""
    if row.whole.isascii():
        found = [number for number, step in enumerate(row.steps, start=1) if step.count("?") > 1 and _asks_twice(step)]
    else:
        found = [number for number, step in enumerate(row.steps, start=1) if _asks_twice(step)]
    return f"step {_listed(found)} asks two questions; make them two steps" if found else None


def other_language(row: Texts) -> str | None:
    """Find a step in Hangul under a question in Latin script, or the reverse.

    Names in the other script do not count, and neither do steps of one or two words.
    """
    if row.whole.isascii() or not HANGUL.search(row.whole):
        return None
    script = main_script(row.question)
    odd = HANGUL if script == "Latin script" else LATIN
    steps = [(number, step) for number, step in enumerate(row.steps, start=1) if odd.search(step)]
    if not steps:  # as in nearly all rows; the rest takes longer
        return None
    known = {word.lower() for word in (*HANGUL.findall(row.question), *LATIN.findall(row.question))}
    found = [number for number, step in steps if _is_other(script, known, step)]
    other = "Latin script" if script == "Hangul" else "Hangul"
    return f"step {_listed(found)} is in {other}, the question in {script}; translate one of them" if found else None


def lost_character(row: Texts) -> str | None:
    """Find U+FFFD, which replaces a character that a program could not read."""
    if "\ufffd" not in row.whole:
        return None
    names = [f"step {number}" for number, step in enumerate(row.steps, start=1) if "\ufffd" in step]
    names[:0] = ["question"] if "\ufffd" in row.question else []
    return f"U+FFFD, a character that was lost, in {', '.join(names)}; restore the text"


def special_token(row: Texts) -> str | None:
    """Find text that is a special token of common tokenizers. Training refuses it if it is one of the model's."""
    found = _SPECIAL.search(row.whole) if "<" in row.whole or "[" in row.whole else None
    return f"{found[0]!r} is a special token of many models; remove it" if found else None


CHECKS: dict[str, Callable[[Texts], str | None]] = {
    "one step only": one_step,
    "step repeats the question": step_repeats_question,
    "repeated step": repeated_step,
    "unused step": unused_step,
    "two questions in one step": two_questions,
    "another language": other_language,
    "lost character": lost_character,
    "special token": special_token,
}
"""Kind -> check, in the order of the report."""

MOST_QUESTIONS = 1_000_000


class Repeats:
    """Find questions that occurred before. Only hashes of the first MOST_QUESTIONS are kept, 300 bytes each."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[int, str]] = {}
        """Hash of a question -> hash of the answer and place of its first row."""

    def add(self, question: str, answer: str, source: str) -> tuple[str, str] | None:
        """Return (kind, message) if the question occurred before. Both texts are normalised."""
        entry = (hash(answer), source)
        first = self._first.get(hash(question))
        if first is None:
            if len(self._first) < MOST_QUESTIONS:
                self._first[hash(question)] = entry
            return None
        if first[0] == entry[0]:
            return "question repeated", f"{first[1]} has the same question and answer; remove one of them"
        return "same question, other answer", f"{first[1]} has another answer to the same question; keep the better one"


def _is_other(script: str, known: set[str], step: str) -> bool:
    """Return whether a step is in the other script, with two words or more that the question does not have."""
    if script == "other" or main_script(step) in {script, "other"}:
        return False
    hangul = [word for word in HANGUL.findall(step) if word not in known]
    if script == "Latin script":
        return len(hangul) >= 2
    latin = [word for word in LATIN.findall(step) if word.lower() not in known]
    return not hangul and len(latin) >= 2 and any(word[0].islower() for word in latin)


def _asks_twice(step: str) -> bool:
    if step.count("?") + step.count("？") < 2:
        return False
    bare = _QUOTED.sub("", step).rstrip()
    match = _NEXT_QUESTION.search(bare)
    return match is not None and bare.endswith(("?", "？"))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
