"""Compare what a server replied with what the run gives for the same prompts. Every comparison is one check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from qdsft.data.examples import Example
from qdsft.data.prediction import Prediction
from qdsft.data.prompt import Message
from qdsft.data.task import Task
from qdsft.deploy.endpoint import ServedAnswer
from qdsft.metrics.catalog import shown_in
from qdsft.metrics.intervals import bootstrap
from qdsft.metrics.scores import score

Verdict = Literal["passed", "differs", "failed", "not checked"]
"""differs: there is a difference, and it is small enough to be reported only."""

MOST_CHANGED = 0.1
"""Largest share of answers that may change when they are asked again, or that may end at another place. A batch of
another size can change a token between two nearly equal ones in half precision."""
FEW = 5
"""With as many answers or more, a single one that differs is reported only."""
VALID_DROP = 0.1
"""Largest drop of the share of valid decompositions."""
SCORE_DROP = 0.02
"""Largest drop of exact match or SARI: two trainings with different seeds differ by as much."""


@dataclass(frozen=True)
class Expected:
    """The run's own answer to a prompt."""

    text: str
    stopped: bool | None
    """Whether the model ended the answer itself; None if it was not recorded."""


@dataclass(frozen=True)
class Replay:
    """A prompt, and what the run and the server make of it."""

    name: str
    messages: Sequence[Message]
    ids: Sequence[int]
    """Token ids of the prompt in training."""
    expected: Expected | None
    """None for a golden prompt that was not decoded."""
    example: Example | None
    """The held-out row; None for a golden prompt."""
    served_ids: Sequence[int] | None
    """Token ids of the prompt on the server; None if the server does not show them."""
    served: ServedAnswer
    again: ServedAnswer | None
    """The answer to the same prompt without a temperature in the request; None if it was not asked again."""


@dataclass(frozen=True)
class ServedScore:
    """A metric over the held-out rows that were asked."""

    run: float
    served: float
    difference: float
    interval: tuple[float, float]
    """95 % interval of the difference, over pairs of rows."""


@dataclass(frozen=True)
class Check:
    """The verdict of one comparison."""

    name: str
    verdict: Verdict
    detail: str
    compared: int
    different: int = 0
    scores: dict[str, ServedScore] = field(default_factory=dict)


def check_prompt_ids(replays: Sequence[Replay]) -> Check:
    """Compare the token ids of the prompts, or their number on a server that does not show ids."""
    name, wrong, seen = "prompt ids", [], 0
    for one in replays:
        if one.served_ids is not None:
            seen += 1
            if list(one.served_ids) != list(one.ids):
                wrong.append(f"{one.name}: {_difference(one.ids, one.served_ids)}")
                continue
        if one.served.prompt_tokens is not None and one.served.prompt_tokens != len(one.ids):
            wrong.append(f"{one.name}: {one.served.prompt_tokens} tokens, and {len(one.ids)} in training")
    counted = [one for one in replays if one.served_ids is not None or one.served.prompt_tokens is not None]
    if not counted:
        return Check(name, "not checked", "the server shows neither token ids nor their number", 0)
    if wrong:
        detail = f"{len(wrong)} of {len(counted)} prompts differ from training; {wrong[0]}"
        return Check(name, "failed", f"{detail}; serve the chat template of the run", len(counted), len(wrong))
    what = "the ids" if seen == len(counted) else "the number of tokens (the server shows no ids)"
    return Check(name, "passed", f"{what} of {len(counted)} prompts are those of training", len(counted))


def check_sampling(replays: Sequence[Replay]) -> Check:
    """Compare greedy answers with those to the same requests without a temperature."""
    asked = [(one, one.again) for one in replays if one.again is not None]
    changed = [one for one, again in asked if again.text != one.served.text]
    detail = f"{len(changed)} of {len(asked)} answers change when they are asked again without a temperature"
    verdict = _verdict(len(changed), len(asked), MOST_CHANGED)
    if verdict == "failed":
        detail += "; the server samples: make temperature 0 its default"
    elif verdict == "differs":
        detail += "; half precision can do that, and so can a server that samples where the model is nearly sure"
    return Check("sampling", verdict, detail, len(asked), len(changed))


def check_answers(replays: Sequence[Replay], min_identical: float) -> Check:
    """Compare greedy answers with the run's own.

    Weights of 4 or 8 bit change some answers, and another adapter changes nearly all: `min_identical` tells them apart.
    """
    pairs = _pairs(replays)
    wrong = [one for one, expected in pairs if one.served.text != expected.text]
    verdict = _verdict(len(wrong), len(pairs), 1 - min_identical)
    detail = f"{len(pairs) - len(wrong)} of {len(pairs)} greedy answers are those of the run"
    if verdict == "failed":
        detail += f", less than {min_identical:.0%}; other weights are served"
    elif verdict == "differs":
        detail += "; quantized weights and half precision change answers"
    return Check("greedy answers", verdict, detail, len(pairs), len(wrong))


def check_stop(replays: Sequence[Replay]) -> Check:
    """Compare where answers end: at the same place, and because of a stop token or of the length limit."""
    pairs = _pairs(replays)
    early = [one for one, expected in pairs if _is_beginning(one.served.text, expected.text)]
    late = [one for one, expected in pairs if _is_beginning(expected.text, one.served.text)]
    other = [
        one
        for one, expected in pairs
        if None not in (one.served.stopped, expected.stopped) and one.served.stopped != expected.stopped
    ]
    wrong = {one.name for one in (*early, *late, *other)}
    verdict = _verdict(len(wrong), len(pairs), MOST_CHANGED)
    detail = f"{len(pairs) - len(wrong)} of {len(pairs)} answers end as those of the run"
    if wrong:
        detail += f" ({len(early)} end earlier, {len(late)} later, {len(other)} for another reason)"
    if verdict == "failed":
        detail += "; serve the stop tokens of the run"
    return Check("stop", verdict, detail, len(pairs), len(wrong))


def check_validity(replays: Sequence[Replay], task: Task) -> Check:
    """Compare how many answers are valid decompositions."""
    pairs = _pairs(replays)
    own = sum(not task.problems(expected.text) for _, expected in pairs)
    served = sum(not task.problems(one.served.text) for one, _ in pairs)
    detail = f"{served} of {len(pairs)} answers are valid, and {own} of the run's own"
    verdict = _verdict(max(own - served, 0), len(pairs), VALID_DROP)
    return Check("structural validity", verdict, detail, len(pairs), max(own - served, 0))


def check_scores(replays: Sequence[Replay], task: Task) -> Check:
    """Compare the scores of the held-out rows, pair by pair."""
    name = "scores"
    rows = [
        (score(_predict(task, one.example, expected)), score(_predict(task, one.example, one.served)))
        for one, expected in _pairs(replays)
        if one.example is not None
    ]
    columns = {}
    for metric in shown_in("merge"):
        known = [(own[metric.key], served[metric.key]) for own, served in rows if metric.key in own]
        if pairs := [(one, two) for one, two in known if one is not None and two is not None]:
            columns[metric.key] = pairs
    if not columns:
        return Check(name, "not checked", "the run has no held-out rows", 0)
    found, failed, moved = {}, [], False
    limited = {metric.key for metric in shown_in("merge limit")}
    for key, pairs in columns.items():
        differences = [two - one for one, two in pairs]
        low, high = bootstrap({key: differences})[key] if any(differences) else (0.0, 0.0)
        mean = fmean(differences)
        found[key] = ServedScore(fmean(one for one, _ in pairs), fmean(two for _, two in pairs), mean, (low, high))
        moved = moved or any(differences)
        if key in limited and mean < -SCORE_DROP and high < 0:
            failed.append(key)
    detail = ", ".join(
        f"{key} {one.served:.3f} (run {one.run:.3f}; {one.difference:+.3f}, 95 % {one.interval[0]:+.3f} to "
        f"{one.interval[1]:+.3f})"
        for key, one in found.items()
    )
    return Check(name, "failed" if failed else "differs" if moved else "passed", detail, len(rows), scores=found)


def _predict(task: Task, example: Example | None, answer: Expected | ServedAnswer) -> Prediction:
    assert example is not None
    return task.predict(example, answer.text, answer.stopped is not False)


def _pairs(replays: Iterable[Replay]) -> list[tuple[Replay, Expected]]:
    return [(one, one.expected) for one in replays if one.expected is not None]


def _verdict(different: int, compared: int, allowed: float) -> Verdict:
    """Return the verdict on a number of differences; `allowed` is the share that is reported only."""
    if not compared:
        return "not checked"
    if not different:
        return "passed"
    chance = 1 if compared >= FEW else 0
    return "differs" if different <= max(allowed * compared, chance) else "failed"


def _is_beginning(text: str, whole: str) -> bool:
    return text != whole and whole.startswith(text)


def _difference(trained: Sequence[int], served: Sequence[int]) -> str:
    """Return in words how the token ids of a prompt differ."""
    trained, served = list(trained), list(served)
    if served[1:] == trained:
        return f"token {served[0]} is put before the prompt, as by a server that adds a second BOS token"
    if trained[1:] == served:
        return f"the first token, {trained[0]}, is missing"
    if len(served) < len(trained) and served in (trained[: len(served)], trained[-len(served) :]):
        return f"truncated from {len(trained)} to {len(served)} tokens; give the server a larger context"
    place = next((i for i, pair in enumerate(zip(trained, served, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return f"{len(served)} tokens, and {len(trained)} in training"
    return f"token {place} is {served[place]}, and {trained[place]} in training"
