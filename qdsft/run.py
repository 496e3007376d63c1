"""The run directory: its manifest run.json, its states and its checkpoints."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from qdsft.data import stream_records
from qdsft.errors import UserError
from qdsft.examples import Example
from qdsft.files import disk_errors, write_json, write_text
from qdsft.recipe import Recipe
from qdsft.record import Record

MANIFEST = "run.json"
EVAL_ROWS = "eval.jsonl"
LOG = "log.jsonl"
PACKAGES = ("qdsft", "torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "deepspeed")


class GoldenPrompt(BaseModel):
    """A prompt of the training data with the token ids that the model saw."""

    messages: list[dict[str, str]]
    ids: list[int]


class EvalRow(BaseModel):
    """One line of eval.jsonl: a held-out row as it was rendered."""

    row: dict[str, Any]
    messages: list[dict[str, str]]
    completion: str


class Manifest(BaseModel):
    """run.json: all that is needed to know, repeat and use a run."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    state: Literal["running", "finished"]
    recipe_path: str
    recipe: dict[str, Any]
    origins: dict[str, str]
    fingerprint: dict[str, Any]
    """What must be unchanged for a resume: recipe, data, world size."""
    data: dict[str, Any]
    """Row counts and hashes of the split."""
    tokens: dict[str, Any]
    """Row lengths, supervised share, rows touched by overlength."""
    template_sha256: str
    golden_prompts: list[GoldenPrompt]
    stop_token_ids: list[int]
    base_model: dict[str, Any]
    artifact: Literal["adapter", "model"]
    versions: dict[str, str]
    git: str | None
    device: dict[str, Any]
    results: dict[str, Any] = {}
    """Timings, losses and peak memory of a finished run."""

    def folder(self, run_dir: Path) -> Path:
        """Where the adapter or model is: a folder of its own, or, as on the Hub, the files beside run.json."""
        own = run_dir / self.artifact
        beside = run_dir / ("adapter_config.json" if self.artifact == "adapter" else "config.json")
        return run_dir if beside.is_file() and not own.is_dir() else own

    def load_recipe(self) -> Recipe:
        """The recipe as it was resolved when the run began; its upstream keys are not checked again.

        Raises ValidationError if it has keys or values that this version does not know; `read_manifest` has seen to
        that.
        """
        return Recipe.model_validate({**self.recipe, "path": Path(self.recipe_path), "origins": self.origins})


def read_manifest(run_dir: Path) -> Manifest:
    """The manifest of a run directory; raises UserError where there is none that can be read."""
    path = run_dir / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        manifest.load_recipe()
        return manifest
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{run_dir}: no run directory ({MANIFEST} is missing); give the folder that qdsft train wrote, "
            "such as outputs/tiny-full"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged, or written by another version of qdsft; train again") from error


def read_adapter_run(run_dir: Path) -> Manifest:
    """As read_finished, for a run with an adapter; raises UserError if it is a whole model."""
    manifest = read_finished(run_dir)
    if manifest.artifact == "model":
        raise UserError(f"{run_dir}: is a whole model already: {manifest.folder(run_dir)}")
    return manifest


def read_finished(run_dir: Path) -> Manifest:
    """As read_manifest, for a run that has ended; raises UserError if it has not."""
    manifest = read_manifest(run_dir)
    if manifest.state != "finished" or not manifest.folder(run_dir).is_dir():
        raise UserError(f"{run_dir}: this run has not finished; go on with: {manifest.load_recipe().resume_command()}")
    return manifest


def write_eval_rows(run_dir: Path, examples: Sequence[Example]) -> None:
    """Keep the held-out examples with the run, so that evaluation needs no other file."""
    write_text(run_dir / EVAL_ROWS, "".join(example.to_json() + "\n" for example in examples))


def read_eval_rows(run_dir: Path, limit: int | None = None) -> list[Example]:
    """The held-out examples of a run, or the first of them; raises UserError if the file is missing or damaged."""
    examples = []
    for record in islice(stream_records(run_dir / EVAL_ROWS), limit):
        try:
            kept = EvalRow.model_validate(record.row)
        except ValidationError as error:
            raise UserError(f"{record.source}: damaged, or written by another version of qdsft; train again") from error
        examples.append(Example(Record(kept.row, record.source), tuple(kept.messages), kept.completion))
    return examples


def write_manifest(run_dir: Path, manifest: Manifest) -> None:
    """Write run.json, whole or not at all."""
    write_json(run_dir / MANIFEST, manifest.model_dump(mode="json"))


def open_run(run_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the run directory, or refuse one that is in use.

    Raises UserError if a run has begun in it and neither `resume` nor `overwrite` is given, if that
    would delete something that is not a run directory, or if it cannot be written.
    """
    with disk_errors(run_dir):
        occupied = run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir()))
        is_run = (run_dir / MANIFEST).is_file()
        if resume and not is_run:
            raise UserError(f"{run_dir}: nothing to resume: {MANIFEST} is missing; start without --resume")
        if occupied and not is_run:
            raise UserError(
                f"{run_dir}: holds files that are no run of qdsft; choose another folder with training.output_dir=..."
            )
        if occupied and not resume and not overwrite and _has_begun(run_dir):
            state = "a finished" if _state(run_dir) == "finished" else "an unfinished"
            raise UserError(
                f"{run_dir}: holds {state} run; add --resume to go on, --overwrite to delete it, "
                "or choose another folder with training.output_dir=..."
            )
        if occupied and not resume:
            shutil.rmtree(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.write_bytes(b"qdsft")
        probe.unlink()


def run_state(run_dir: Path) -> Literal["none", "begun", "finished"]:
    """Where a run stands: --resume is for one that has begun; "none" is one that `open_run` lets start."""
    if not (run_dir / MANIFEST).is_file() or not _has_begun(run_dir):
        return "none"
    return "finished" if _state(run_dir) == "finished" else "begun"


def _has_begun(run_dir: Path) -> bool:
    """Whether there is anything to lose: a run that failed before its first logged step has left nothing."""
    return (run_dir / LOG).exists() or any(run_dir.glob("checkpoint-*")) or _state(run_dir) != "running"


def _state(run_dir: Path) -> str | None:
    try:
        return read_manifest(run_dir).state
    except UserError:
        return None


def fingerprint(recipe: Recipe, data: dict[str, Any], template_sha256: str, world_size: int) -> dict[str, Any]:
    """What a resumed run must share with the run that it continues."""
    values = recipe.resolved()
    for key in ("output_dir", "report_to", "run_name", "disable_tqdm", "logging_steps", "save_total_limit"):
        values["training"].pop(key, None)
    for section in ("publish", "evaluation", "preflight"):
        values.pop(section)
    return {
        "recipe": values,
        "data": [data["train_sha256"], data["eval_sha256"]],
        "template": template_sha256,
        "world_size": world_size,
    }


def check_resume(run_dir: Path, current: dict[str, Any]) -> None:
    """Raise UserError, naming what differs, if a run cannot be continued with the current inputs."""
    earlier = read_manifest(run_dir).fingerprint
    if earlier.get("world_size") != current["world_size"]:
        raise UserError(
            f"{run_dir}: was begun on {earlier.get('world_size')} processes and cannot go on with "
            f"{current['world_size']}; launch it as before, or start anew with --overwrite"
        )
    before, now = _flatten(earlier), _flatten(current)
    for key in sorted(before.keys() | now.keys()):
        was, is_now = before.get(key, "not set"), now.get(key, "not set")
        if was != is_now:
            raise UserError(
                f"{run_dir}: {key.removeprefix('recipe.')} has changed since the run began (was {was}, now {is_now}); "
                "undo the change, or start anew with --overwrite"
            )


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {key: leaf for name in value for key, leaf in _flatten(value[name], f"{path}.{name}".lstrip(".")).items()}


def versions() -> dict[str, str]:
    """Installed versions of the packages that shape a result."""
    result = {}
    for package in PACKAGES:
        try:
            result[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return result


def git_commit() -> str | None:
    """`<commit>` or `<commit>-dirty` of the checkout that the command runs in; None outside of one."""

    def git(*arguments: Sequence[str] | str) -> str:
        command = ["git", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}-dirty" if git("status", "--porcelain") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def text_sha256(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def json_sha256(value: dict[str, Any]) -> str:
    """SHA-256 of a value as JSON, whatever the order of its keys, in hex."""
    return text_sha256(json.dumps(value, sort_keys=True))
