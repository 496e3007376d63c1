"""Draw several answers to each question of a run, in batches, and save them so that an interrupted run resumes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdsft.console import say
from qdsft.data.text import question_hash
from qdsft.inference.decompose_file import MERGE_FROM
from qdsft.inference.draw import TOP_K, Sampling
from qdsft.inference.generate import Answer
from qdsft.inference.loaded_run import RunPrompts, load_weights
from qdsft.inference.merged_adapter import load_merged
from qdsft.runs.resume_log import ResumeLog, open_log


@dataclass(frozen=True)
class SampleSettings:
    """How many answers are drawn, and how."""

    samples: int = 8
    """Answers to each question."""
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0
    batch_size: int = 64
    """Answers decoded together. It does not change which tokens are drawn."""


@dataclass(frozen=True)
class Asked:
    """A question to draw answers to."""

    messages: tuple[str, ...]
    """The texts of the chat messages before the answer."""
    question: str
    prompt: tuple[int, ...]
    """The messages as token ids."""


@dataclass(frozen=True)
class Samples:
    """The answers that were drawn for one question, in the order of their numbers from 0."""

    texts: list[str]
    stopped: list[bool]
    """Whether the model ended the answer, and question and answer are no longer than training.max_length."""


def draw_samples(
    run: RunPrompts, asked: Mapping[int, Asked], settings: SampleSettings, log_path: Path, *, max_new_tokens: int
) -> dict[int, Samples]:
    """Return number of the question -> its samples.

    The samples of a question are saved to `log_path` together. Questions in it are not asked again, and the file stays.
    The draws of a question depend on its text and the seed alone, not on its batch or the other questions. Raises
    UserError for a log of another run or other settings, and as `load_weights` and `LoadedRun.stream_ids` do.
    """
    identity = {
        "qdsft_samples": 1,
        "run": run.manifest.sha256(),
        "samples": settings.samples,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": TOP_K,
        "seed": settings.seed,
        "max_new_tokens": max_new_tokens,
    }
    with open_log(log_path, identity, Samples, remedy="choose another --output", replace=False) as log:
        waiting = {number: one for number, one in asked.items() if number not in log.results}
        if len(waiting) < len(asked):
            say(f"{log_path}: {len(asked) - len(waiting)} of {len(asked)} questions were sampled before")
        if waiting:
            _draw(run, waiting, settings, log, merge=len(asked) >= MERGE_FROM, max_new_tokens=max_new_tokens)
        return {number: log.results[number] for number in asked}


def _draw(
    run: RunPrompts,
    waiting: Mapping[int, Asked],
    settings: SampleSettings,
    log: ResumeLog[Samples],
    *,
    merge: bool,
    max_new_tokens: int,
) -> None:
    """Add the samples of every question to the log, as soon as a question has all of them."""
    loaded = (load_merged if merge else load_weights)(run)
    number_of = [number for number in waiting for _ in range(settings.samples)]
    prompts = [waiting[number].prompt for number in number_of]
    seeds = _seeds([one.messages[-1] for one in waiting.values()], settings)
    say(f"drawing {settings.samples} answers to each of {len(waiting)} questions on {loaded.machine.name}")
    found: dict[int, dict[int, Answer]] = defaultdict(dict)
    # Whole questions make a batch, so that a resumed run has the batches of an uninterrupted one.
    batch_size = max(settings.batch_size // settings.samples, 1) * settings.samples
    sampling = Sampling(settings.temperature, settings.top_p, seeds)
    answers = loaded.stream_ids(
        prompts, batch_size=batch_size, progress=True, sampling=sampling, max_new_tokens=max_new_tokens
    )
    limit = run.recipe.max_length
    for index, answer in answers:
        number = number_of[index]
        found[number][index % settings.samples] = answer
        if len(found[number]) == settings.samples:
            drawn = [one for _, one in sorted(found.pop(number).items())]
            room = None if limit is None else limit - len(waiting[number].prompt)
            stopped = [one.stopped and (room is None or one.tokens <= room) for one in drawn]
            log.add(number, Samples([one.text for one in drawn], stopped))


def _seeds(questions: Sequence[str], settings: SampleSettings) -> list[str]:
    return [
        f"{settings.seed}/{sample}/{question_hash(question)}"
        for question in questions
        for sample in range(settings.samples)
    ]
