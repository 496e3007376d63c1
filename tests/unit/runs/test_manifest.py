"""The run directory: its manifest, who may open it, and what a resume must share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import DATA, RECIPE, manifest_of
from helpers.refusals import refusal

from qdsft.hashing import text_sha256
from qdsft.recipe import load_recipe
from qdsft.runs.facts import DataFacts
from qdsft.runs.manifest import check_resume, make_fingerprint, read_finished, read_manifest, write_manifest


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")


def run_of(name: str = "run", *overrides: str, **changes: Any) -> Path:
    """A run directory as training leaves it; finished if `state` says so."""
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    manifest = manifest_of(load_recipe("r.yaml", overrides), **changes)
    write_manifest(folder, manifest)
    if manifest.state == "finished":
        (folder / manifest.artifact).mkdir()
    return folder


# run.json


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["lora={}", "quantization.load_in_4bit=true", "seed=7"],
        ["lora.target_modules=[q_proj]", "prompt.user={{ x }}", "prompt.completion=가 {{ y }}", "data.max_samples=3"],
        ["training={}", "model.dtype=float32", "publish.hub_model_id=user/name"],
    ],
)
def test_a_manifest_comes_back_with_its_recipe(overrides: list[str]) -> None:
    recipe = load_recipe("r.yaml", overrides)
    manifest = manifest_of(recipe)
    folder = Path("run")
    folder.mkdir()
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    assert read_manifest(folder).load_recipe() == recipe
    assert [path.name for path in folder.iterdir()] == ["run.json"]


NO_RUN = "no run directory (run.json is missing); give the folder that qdsft train wrote, such as outputs/tiny-full"


def test_a_folder_that_is_no_run() -> None:
    Path("empty").mkdir()
    for name in ("nope", "empty", "r.yaml"):
        assert refusal(lambda name=name: read_manifest(Path(name))) == f"{name}: {NO_RUN}"  # type: ignore[misc]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"running"', '"paused"'),
        lambda text: text.replace('"state"', '"status"'),
        lambda text: text[:-2] + ', "later": 1}',
        lambda text: "[" * 100_000,
        lambda text: text.replace('"m"', '"\udcff"'),
    ],
)
def test_a_damaged_manifest(damage: Callable[[str], str]) -> None:
    path = run_of() / "run.json"
    path.write_bytes(damage(path.read_text(encoding="utf-8")).encode("utf-8", "surrogateescape"))
    assert refusal(lambda: read_manifest(Path("run"))) == (
        "run/run.json: damaged, or written by another version of qdsft; train again"
    )


def test_a_manifest_that_is_a_folder() -> None:
    Path("run/run.json").mkdir(parents=True)
    assert refusal(lambda: read_manifest(Path("run"))) == (
        "run/run.json: Is a directory; make it a readable file, or train again"
    )


def test_a_finished_run_is_one_whose_artifact_is_there() -> None:
    unfinished = "run: this run has not finished; resume it with: qdsft train r.yaml --resume"
    run_of()
    assert refusal(lambda: read_finished(Path("run"))) == unfinished
    run_of(state="finished")
    assert read_finished(Path("run")).state == "finished"
    Path("run/adapter").rmdir()
    assert refusal(lambda: read_finished(Path("run"))) == unfinished


# Resuming


def resume_with(*overrides: str, data: DataFacts = DATA, template: str = "x", world: int = 1) -> None:
    now = make_fingerprint(load_recipe("r.yaml", overrides), data, template, world)
    check_resume(Path("run"), read_manifest(Path("run")).fingerprint, now)


def test_a_run_resumes_with_the_same_inputs() -> None:
    run_of()
    resume_with()


@pytest.mark.parametrize(
    "override",
    [
        "training.output_dir=elsewhere",
        "training.logging_steps=1",
        "training.report_to=none",
        "training.save_total_limit=9",
        "evaluation.batch_size=2",
        "publish.hub_model_id=me/mine",
    ],
)
def test_values_that_do_not_affect_the_weights_may_change(override: str) -> None:
    run_of()
    resume_with(override)


REMEDY = "; undo the change, or start again with --overwrite"


@pytest.mark.parametrize(
    ("override", "change"),
    [
        (
            "training.learning_rate=1e-4",
            "training.learning_rate has changed since the run began (was 0.0002, now 0.0001)",
        ),
        ("training.packing=true", "training.packing has changed since the run began (was not set, now True)"),
        # null is no default: without a limit, rows are longer than under the one of 1024
        ("training.max_length=null", "training.max_length has changed since the run began (was not set, now None)"),
        (
            "training.lr_scheduler_kwargs.num_cycles=1",
            "training.lr_scheduler_kwargs.num_cycles has changed since the run began (was 0.5, now 1)",
        ),
        ("seed=1", "seed has changed since the run began (was 42, now 1)"),
        ("model.name_or_path=n", "model.name_or_path has changed since the run began (was m, now n)"),
        ("prompt.system=x", "prompt.system has changed since the run began (was None, now x)"),
        ("data.max_samples=5", "data.max_samples has changed since the run began (was None, now 5)"),
        # an adapter with every default is not the whole model
        ("lora={}", "lora has changed since the run began (was None, now {})"),
        ("lora.r=8", "lora has changed since the run began (was None, now not set)"),
    ],
)
def test_a_resume_names_the_key_that_changed(override: str, change: str) -> None:
    run_of()
    assert refusal(lambda: resume_with(override)) == f"run: {change}{REMEDY}"


def test_a_resume_sees_a_key_that_is_gone() -> None:
    run_of("run", "training.packing=true")
    message = refusal(resume_with)
    assert message == f"run: training.packing has changed since the run began (was True, now not set){REMEDY}"


def test_a_resume_needs_the_same_data_template_and_number_of_processes() -> None:
    run_of()
    remedy = ", begin a new run with training.output_dir=..., or start this one again with --overwrite"
    changed = DATA.model_copy(update={"train_sha256": "new", "eval_sha256": "new"})
    assert refusal(lambda: resume_with(data=changed)) == (
        f"run: the training rows from t.jsonl have changed since the run began; restore the file{remedy}"
    )
    assert refusal(lambda: resume_with(template="y")) == (
        f"run: the chat template has changed since the run began; restore it{remedy}"
    )
    assert refusal(lambda: resume_with(world=2)) == (
        "run: this run started with 1 processes and cannot resume with 2; launch it as before, or start again with "
        "--overwrite"
    )


def test_held_out_rows_that_changed_are_named_by_their_file() -> None:
    changed = DATA.model_copy(update={"eval_sha256": "new"})
    run_of()
    assert "the held-out rows from t.jsonl have changed" in refusal(lambda: resume_with(data=changed))
    run_of("run", "data.eval=e.jsonl")
    assert "the held-out rows from e.jsonl have changed" in refusal(
        lambda: resume_with("data.eval=e.jsonl", data=changed)
    )
    message = refusal(lambda: resume_with("data.eval=f.jsonl", data=changed))
    assert "data.eval has changed since the run began (was e.jsonl, now f.jsonl)" in message, "the cause comes first"


def test_text_sha256() -> None:
    assert text_sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_manifest_is_plain_json() -> None:
    folder = run_of()
    assert (
        json.loads((folder / "run.json").read_text(encoding="utf-8"))["recipe"]["training"]["learning_rate"] == 0.0002
    )
