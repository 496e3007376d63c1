"""run.json: the manifest of a run directory."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qdsft.errors import UserError
from qdsft.files import write_json
from qdsft.hashing import text_sha256
from qdsft.recipe import Recipe
from qdsft.recipe.upstream_keys import RESERVED
from qdsft.runs.facts import BaseModelFacts, DataFacts, DeviceFacts, Fingerprint, ResultFacts, TokenFacts
from qdsft.runs.layout import MANIFEST
from qdsft.strict_json import to_json

TokenIds = Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]
"""Never empty: a check over an empty list would pass."""


class _Training(BaseModel):
    """The upstream keys that are read after the training; `Manifest.load_recipe` does not check the others again."""

    model_config = ConfigDict(strict=True)

    max_length: Annotated[int, Field(ge=1)] | None = None
    output_dir: str | None = None


class GoldenPrompt(BaseModel):
    """A training prompt with its token ids, which inference compares with its own."""

    messages: Annotated[list[dict[str, str]], Field(min_length=1)]
    ids: TokenIds


class Manifest(BaseModel):
    """run.json: what is needed to describe, repeat and use a run."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    state: Literal["running", "finished"]
    recipe_path: str
    recipe: dict[str, Any]
    origins: dict[str, str]
    fingerprint: Fingerprint
    data: DataFacts
    tokens: TokenFacts
    template_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    template_date: date | None = None
    """The date that the chat template writes; None for a template that writes none."""
    golden_prompts: Annotated[list[GoldenPrompt], Field(min_length=1)]
    stop_token_ids: TokenIds
    base_model: BaseModelFacts
    artifact: Literal["adapter", "model"]
    versions: dict[str, str]
    untested_versions: list[str] = []
    """Packages in other versions than qdsft is tested with."""
    git: str | None
    device: DeviceFacts
    results: ResultFacts = Field(default_factory=ResultFacts)

    def sha256(self) -> str:
        """SHA-256 of run.json, in hex."""
        return text_sha256(to_json(self.model_dump(mode="json"), indent=2) + "\n")

    def weights_folder(self, run_dir: Path) -> Path:
        """Return the folder of the weights: `adapter` or `model`, or, as on the Hub, the folder of run.json itself."""
        own = run_dir / self.artifact
        beside = run_dir / ("adapter_config.json" if self.artifact == "adapter" else "config.json")
        return run_dir if beside.is_file() and not own.is_dir() else own

    def load_recipe(self, *, trust_remote_code: bool = False) -> Recipe:
        """Return the recipe as it was resolved when the run began; its upstream keys are not checked again.

        model.trust_remote_code is the argument: a file cannot consent to running the code that comes with it.

        Raises ValidationError for keys or values that this version does not know. `read_manifest` has checked that
        there are none.
        """
        # Runs of 0.1.0 hold keys that had no effect.
        given = self.recipe.get("publish", {})
        publish = {key: value for key, value in given.items() if key not in RESERVED["publish"]}
        values = {**self.recipe, "publish": publish, "path": Path(self.recipe_path), "origins": self.origins}
        if isinstance(model := values.get("model"), dict):
            values["model"] = {**model, "trust_remote_code": trust_remote_code}
        return Recipe.model_validate(values)


def read_manifest(run_dir: Path) -> Manifest:
    """Return the manifest of a run directory; raises UserError if it is missing or damaged."""
    path = run_dir / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        _Training.model_validate(manifest.load_recipe().training)
        return manifest
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{run_dir}: no run directory ({MANIFEST} is missing); give the folder that qdsft train wrote, "
            "such as outputs/tiny-full"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; make it a readable file, or train again") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged, or written by another version of qdsft; train again") from error


def read_adapter_run(run_dir: Path) -> Manifest:
    """Return the manifest of a finished adapter run; raises UserError as read_finished, or for a whole model."""
    manifest = read_finished(run_dir)
    if manifest.artifact == "model":
        raise UserError(f"{run_dir}: is a whole model already; use {manifest.weights_folder(run_dir)} as it is")
    return manifest


def read_finished(run_dir: Path) -> Manifest:
    """Return the manifest of a finished run; raises UserError as read_manifest, and if the run has not finished."""
    manifest = read_manifest(run_dir)
    if manifest.state != "finished" or not manifest.weights_folder(run_dir).is_dir():
        raise UserError(
            f"{run_dir}: this run has not finished; resume it with: {manifest.load_recipe().resume_command()}"
        )
    return manifest


def write_manifest(run_dir: Path, manifest: Manifest) -> None:
    """Write run.json."""
    write_json(run_dir / MANIFEST, manifest.model_dump(mode="json"))


def make_fingerprint(recipe: Recipe, data: DataFacts, template_sha256: str, world_size: int) -> Fingerprint:
    """Return what a resumed run must share with the run that it continues."""
    values = recipe.resolved()
    for key in ("output_dir", "report_to", "run_name", "disable_tqdm", "logging_steps", "save_total_limit"):
        values["training"].pop(key, None)
    for section in ("publish", "evaluation", "preflight"):
        values.pop(section)
    return Fingerprint(
        recipe=values,
        data=[data.train_sha256, data.eval_sha256],
        template=template_sha256,
        world_size=world_size,
    )


def check_resume(run_dir: Path, earlier: Fingerprint, current: Fingerprint) -> None:
    """Raise UserError, naming what differs, if a run cannot be continued with the current inputs."""
    if earlier.world_size != current.world_size:
        raise UserError(
            f"{run_dir}: this run started with {earlier.world_size} processes and cannot resume with "
            f"{current.world_size}; launch it as before, or start again with --overwrite"
        )
    before, now = _flatten(earlier.recipe), _flatten(current.recipe)
    for key in sorted(before.keys() | now.keys()):
        was, is_now = before.get(key, "not set"), now.get(key, "not set")
        if was != is_now:
            raise UserError(
                f"{run_dir}: {key} has changed since the run began (was {was}, now {is_now}); "
                "undo the change, or start again with --overwrite"
            )
    if earlier.data != current.data:
        data = current.recipe["data"]
        rows = "training rows" if earlier.data[:1] != current.data[:1] else "held-out rows"
        given = data["train"] if rows == "training rows" else data["eval"] or data["train"]
        file = given if isinstance(given, str) else ", ".join(source["path"] for source in given)
        raise _changed(run_dir, f"the {rows} from {file} have changed since the run began; restore the file")
    if earlier.template != current.template:
        raise _changed(run_dir, "the chat template has changed since the run began; restore it")
    if earlier.loss_sha256 != current.loss_sha256:
        raise _changed(run_dir, "the file of the custom loss has changed since the run began; restore it")


def _changed(run_dir: Path, what: str) -> UserError:
    return UserError(
        f"{run_dir}: {what}, begin a new run with training.output_dir=..., or start this one again with --overwrite"
    )


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {key: leaf for name in value for key, leaf in _flatten(value[name], f"{path}.{name}".lstrip(".")).items()}
