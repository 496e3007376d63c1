"""The run directory: its manifest run.json, its states and its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from qdsft.errors import UserError
from qdsft.files import write_json
from qdsft.recipe import Recipe
from qdsft.runs.layout import MANIFEST


class GoldenPrompt(BaseModel):
    """A prompt of the training data with the token ids that the model saw."""

    messages: list[dict[str, str]]
    ids: list[int]


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


def write_manifest(run_dir: Path, manifest: Manifest) -> None:
    """Write run.json, whole or not at all."""
    write_json(run_dir / MANIFEST, manifest.model_dump(mode="json"))


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
