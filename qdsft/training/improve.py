"""Rejection-sampled fine-tuning: sample, keep what scores best, train again from the base, and compare.

Yuan et al. 2023, Scaling Relationship on Learning Mathematical Reasoning with Large Language Models.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qdsft.console import say
from qdsft.data.task import make_task
from qdsft.errors import UserError
from qdsft.files import disk_errors, exclusive, write_json
from qdsft.hashing import file_sha256
from qdsft.inference.evaluate import evaluate
from qdsft.inference.improved_rows import OTHER_OUTPUT, Counts, Files, make_goal, training_rows, write_rows
from qdsft.inference.loaded_run import load_prompts
from qdsft.inference.sample import SampleSettings
from qdsft.launch import world_size
from qdsft.recipe import Recipe, load_recipe
from qdsft.runs.directory import run_state
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.runs.manifest import Manifest, read_finished
from qdsft.runs.provenance import versions
from qdsft.scoring.compare import Comparisons, compare
from qdsft.scoring.improvement import Keep, verdict
from qdsft.scoring.scored_rows import make_scorer
from qdsft.training.train import train


@dataclass(frozen=True)
class Improved:
    """The result of `improve`; `comparison` and `verdict` are None if only the data set was made."""

    files: Files
    counts: Counts
    comparison: Comparisons | None = None
    verdict: str | None = None


def improve(
    run_dir: Path,
    output: Path,
    *,
    corpus: Path | None = None,
    keep: Keep | None = None,
    settings: SampleSettings | None = None,
    limit: int | None = None,
    sample_only: bool = False,
    trust_remote_code: bool = False,
) -> Improved:
    """Make a data set of the best samples of a run, train on it from the base, and compare both runs.

    Samples are scored by retrieval in `corpus`, or without it by execution over the synthetic world. `keep` is better
    with a corpus and equal without by default; `limit` is the most questions to sample. Only training rows of the run
    are read for it. The same call resumes an interrupted one at the row, checkpoint or evaluation that it had reached.

    Raises UserError for a run without held-out rows, for rows that changed since the run was trained, if no row can
    be scored or no sample replaces one, for an `output` of other settings, and as the stages do.
    """
    settings = settings or SampleSettings()
    manifest = read_finished(run_dir)
    make_task(manifest.load_recipe()).require_decompositions("qdsft improve", run_dir)
    check_can_train(run_dir, manifest, sample_only=sample_only)
    files = Files(output)
    held_out = read_eval_rows(run_dir) if manifest.data.eval_rows else []
    score: dict[str, Any] = {"retrieval": corpus, "execute": corpus is None}
    if not sample_only:
        make_scorer([one.record.row for one in held_out], **score)  # refuse now what evaluation would refuse later
    with exclusive(output, OTHER_OUTPUT):
        with disk_errors(output, OTHER_OUTPUT):
            output.mkdir(parents=True, exist_ok=True)
        run = load_prompts(run_dir, manifest, trust_remote_code=trust_remote_code)
        rows = training_rows(run, held_out)
        goal = make_goal(corpus, keep, [one.record.row for one in rows])
        facts = {
            "run": str(run_dir),
            "run_sha256": manifest.sha256(),
            "corpus": None if corpus is None else {"name": corpus.name, "sha256": file_sha256(corpus)},
            "metrics": goal.metrics,
            "keep": goal.keep,
            "limit": limit,
            "settings": asdict(settings),
            "versions": versions(),
        }
        counts = write_rows(run, goal, rows, held_out, files, settings, limit)
        write_json(files.facts, {**facts, "counts": asdict(counts)})
        say(f"{files.train}: {counts.replaced} of {counts.rows} rows have sampled steps now")
        if sample_only:
            return Improved(files, counts)
        del run
        recipe = again(manifest.load_recipe(trust_remote_code=trust_remote_code), files)
        train(recipe, resume=run_state(files.run) != "none")
        for one in (run_dir, files.run):
            evaluate(one, **score, trust_remote_code=trust_remote_code)
        found = compare([run_dir, files.run])
        difference = found.comparisons[0].metrics[goal.metrics[0]]
        sentence = verdict(goal.metrics[0], difference, found.rows)
        write_json(files.facts, {**facts, "counts": asdict(counts), "verdict": sentence, **found.to_json()})
    return Improved(files, counts, found, sentence)


def check_can_train(run_dir: Path, manifest: Manifest, *, sample_only: bool) -> None:
    """Raise UserError if the training and comparison after the sampling could not be done."""
    if world_size() > 1:
        raise UserError("qdsft improve runs in one process; start it without a launcher")
    if sample_only:
        return
    if not manifest.data.eval_rows:
        raise UserError(f"{run_dir}: no rows were held out, so nothing can be compared; add --sample-only")
    if (processes := manifest.device.processes or 1) > 1:
        raise UserError(
            f"{run_dir}: this run was trained by {processes} processes; add --sample-only, and train with "
            "qdsft train --accelerate, data.train=... and data.eval=..."
        )


def again(recipe: Recipe, files: Files) -> Recipe:
    """Return the recipe of a run with the new training rows and the same held-out rows."""
    return load_recipe(
        recipe,
        [
            f"data.train={files.train}",
            f"data.eval={files.held_out}",
            "data.train_split=train",
            "data.eval_split=validation",
            "data.revision=null",
            "data.max_samples=null",
            f"training.output_dir={files.run}",
        ],
    )
