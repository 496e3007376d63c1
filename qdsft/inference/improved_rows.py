"""Make the data set of `qdsft improve`: sample the training questions of a run, and keep what scores best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.data.examples import Example
from qdsft.data.record import row_json
from qdsft.data.sources import read_rows
from qdsft.data.split import SplitTally, stream_split
from qdsft.data.text import question_hash
from qdsft.errors import UserError
from qdsft.files import write_text
from qdsft.inference.loaded_run import RunPrompts
from qdsft.inference.sample import Asked, Samples, SampleSettings, draw_samples
from qdsft.runs.directory import run_state
from qdsft.scoring.improvement import BY_EXECUTION, BY_RETRIEVAL, Goal, Keep, choose, improved_row, usable_steps
from qdsft.scoring.scored_rows import make_scorer
from qdsft.tokenization.length_limit import TokenizedRows, encode_examples

OTHER_OUTPUT = "choose another --output"


@dataclass(frozen=True)
class Files:
    """What `improve` writes into its folder."""

    folder: Path

    @property
    def samples(self) -> Path:
        """All samples, as they are drawn."""
        return self.folder / "samples.jsonl"

    @property
    def train(self) -> Path:
        """The data set to train on."""
        return self.folder / "train.jsonl"

    @property
    def held_out(self) -> Path:
        """The held-out rows of the run."""
        return self.folder / "held_out.jsonl"

    @property
    def facts(self) -> Path:
        """Settings, counts and result."""
        return self.folder / "improve.json"

    @property
    def run(self) -> Path:
        """The run directory of the new training."""
        return self.folder / "run"


@dataclass(frozen=True)
class Counts:
    """What became of the training rows."""

    rows: int
    """Training rows, repeated ones of a mix included."""
    asked: int
    """Different questions that were sampled."""
    samples: int
    usable: int
    """Samples that are valid decompositions to train on."""
    replaced: int
    """Rows whose steps are a sample now."""


def make_goal(corpus: Path | None, keep: Keep | None, rows: Sequence[dict[str, Any]]) -> Goal:
    """Return what samples for these rows are compared by; raises UserError as `make_scorer`."""
    scorer = make_scorer(rows, retrieval=corpus, execute=corpus is None)
    if scorer.retrieval:
        return Goal(scorer.retrieval, BY_RETRIEVAL, keep or "better")
    assert scorer.execution
    return Goal(scorer.execution, BY_EXECUTION, keep or "equal")


def training_rows(run: RunPrompts, held_out: Sequence[Example]) -> list[Example]:
    """Return the rows that the run was trained on. Raises UserError if the rows of its recipe have changed since."""
    tally, rows = SplitTally(), []
    for side, example in stream_split(run.recipe, read_rows):
        tally.add(side, example)
        if side == "train":
            rows.append(example)
    now, then = tally.summary(), run.manifest.data
    if (now["train_sha256"], now["eval_sha256"]) != (then.train_sha256, then.eval_sha256):
        names = ", ".join(run.recipe.data.train_paths)
        raise UserError(f"{run.run_dir}: the rows of {names} have changed since the run was trained; put them back")
    secret = {question_hash(one.question) for one in held_out}
    for one in (one for one in rows if question_hash(one.question) in secret):
        raise UserError(f"{one.record.source}: the question is also held out; remove it from the training rows")
    return rows


def write_rows(
    run: RunPrompts,
    goal: Goal,
    rows: Sequence[Example],
    held_out: Sequence[Example],
    files: Files,
    settings: SampleSettings,
    limit: int | None,
) -> Counts:
    """Sample the questions, and write the data set and the held-out rows."""
    kept = encode_examples(
        run.tokenizer,
        rows,
        run.manifest.stop_token_ids,
        max_length=run.recipe.max_length,
        overlength=run.recipe.data.overlength,
    )
    asked = _asked(run, goal, kept, limit)
    longest = max(len(row.input_ids) - row.prompt_length for row in kept.rows)
    found = draw_samples(run, asked, settings, files.samples, max_new_tokens=min(longest, run.max_new_tokens))
    usable = {asked[number].messages: _usable(asked[number], samples) for number, samples in found.items()}
    rows_of = [(one.record, usable.get(_texts(one), [])) for one in kept.examples]
    choices = [choose(goal, record.row, steps) for record, steps in rows_of]
    counts = Counts(
        rows=len(choices),
        asked=len(asked),
        samples=len(asked) * settings.samples,
        usable=sum(steps is not None for samples in usable.values() for steps in samples),
        replaced=sum(choice.sample is not None for choice in choices),
    )
    if not counts.replaced:
        raise UserError(
            f"{run.run_dir}: no sample is {'better than' if goal.keep == 'better' else 'as good as'} the steps of its "
            f"row ({counts.samples} samples, {counts.usable} of them usable), so there is nothing to train on; draw "
            "more with --samples, or change --temperature or --keep, with another --output"
        )
    facts = {"run": str(run.run_dir), "seed": settings.seed}
    written = [
        improved_row(record.row, choice, {**facts, "row": record.source})
        for (record, _), choice in zip(rows_of, choices, strict=True)
    ]
    _write_lines(files, files.train, written)
    _write_lines(files, files.held_out, [one.record.row for one in held_out])
    return counts


def _asked(run: RunPrompts, goal: Goal, kept: TokenizedRows, limit: int | None) -> dict[int, Asked]:
    """Return number -> question to sample. The numbers of a run's questions depend on nothing else."""
    prompts: dict[tuple[str, ...], Asked] = {}
    improvable = set()
    for row, example in zip(kept.rows, kept.examples, strict=True):
        columns, texts = example.record.row, _texts(example)
        prompt = tuple(row.input_ids[: row.prompt_length])
        prompts.setdefault(texts, Asked(texts, columns["question"], prompt))
        if goal.can_be_improved(goal.of(columns, columns["sub_questions"])):
            improvable.add(texts)
    if not improvable:
        raise UserError(
            f"{run.run_dir}: no training row can be improved: the steps of all have the best score; add --keep equal"
        )
    ordered = sorted(prompts, key=lambda texts: (question_hash(texts[-1])[16:], texts))
    chosen = [(number, prompts[texts]) for number, texts in enumerate(ordered) if texts in improvable]
    return dict(chosen[:limit])


def _texts(example: Example) -> tuple[str, ...]:
    return tuple(message["content"] for message in example.messages)


def _usable(asked: Asked, samples: Samples) -> list[tuple[str, ...] | None]:
    pairs = zip(samples.texts, samples.stopped, strict=True)
    return [usable_steps(asked.question, text, stopped) for text, stopped in pairs]


def _write_lines(files: Files, path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows; raises UserError if a run in the folder was trained on others."""
    text = "".join(row_json(row) + "\n" for row in rows)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    if run_state(files.run) != "none":
        raise UserError(f"{files.run}: was trained on other rows than these; {OTHER_OUTPUT}")
    write_text(path, text)
