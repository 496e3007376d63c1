"""Who may open a run directory, and what is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import RECIPE, manifest_of
from helpers.refusals import refusal

from qdsft.recipe import load_recipe
from qdsft.runs.directory import open_run, refuse_inputs_inside
from qdsft.runs.manifest import write_manifest


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


def contents(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def test_a_fresh_run_makes_its_folder_and_leaves_it_empty() -> None:
    open_run(Path("a/b/run"), resume=False, overwrite=False)
    assert contents("a/b/run") == []
    open_run(Path("a/b/run"), resume=False, overwrite=False)  # an empty folder is free
    open_run(Path("a/b/run"), resume=False, overwrite=True)


IN_USE = "add --resume to continue it, --overwrite to delete it, or choose another folder with training.output_dir=..."


@pytest.mark.parametrize(
    ("state", "leftover", "word"),
    [
        ("running", "log.jsonl", "an unfinished"),
        ("running", "checkpoint-5", "an unfinished"),
        ("finished", "", "a finished"),
    ],
)
def test_a_run_is_not_touched_without_being_asked(state: str, leftover: str, word: str) -> None:
    folder = run_of(state=state)
    (folder / leftover).mkdir(exist_ok=True)
    before = contents("run")
    message = refusal(lambda: open_run(Path("run"), resume=False, overwrite=False))
    assert message == f"run: holds {word} run; {IN_USE}"
    assert contents("run") == before


def test_a_run_that_failed_before_its_first_step_is_in_nobodys_way() -> None:
    run_of(state="running")
    open_run(Path("run"), resume=False, overwrite=False)
    assert contents("run") == []


def test_a_run_whose_manifest_is_damaged_is_not_touched() -> None:
    run_of(state="running")
    Path("run/run.json").write_text("{", encoding="utf-8")
    assert IN_USE in refusal(lambda: open_run(Path("run"), resume=False, overwrite=False))
    assert contents("run") == ["run.json"]


def test_overwrite_deletes_a_run() -> None:
    run_of(state="finished")
    (Path("run") / "checkpoint-5").mkdir()
    open_run(Path("run"), resume=False, overwrite=True)
    assert contents("run") == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_folders_are_never_deleted(overwrite: bool) -> None:
    Path("mine/deep").mkdir(parents=True)
    Path("mine/deep/thesis.txt").touch()
    foreign = "holds files that are not a qdsft run; choose another folder with training.output_dir=..."
    assert refusal(lambda: open_run(Path("mine"), resume=False, overwrite=overwrite)) == f"mine: {foreign}"
    assert contents("mine") == ["deep", "deep/thesis.txt"]
    Path("file").touch()
    assert refusal(lambda: open_run(Path("file"), resume=False, overwrite=overwrite)) == f"file: {foreign}"
    assert Path("file").is_file()
    Path("mine/run.json").mkdir()  # a folder of that name makes no run
    assert refusal(lambda: open_run(Path("mine"), resume=False, overwrite=overwrite)) == f"mine: {foreign}"


def test_a_run_directory_may_be_a_link_to_a_volume() -> None:
    run_of(state="finished")
    Path("link").symlink_to("run")
    open_run(Path("link"), resume=True, overwrite=False)
    open_run(Path("link"), resume=False, overwrite=True)
    assert contents("run") == [] and Path("link").is_symlink()
    Path("lost").symlink_to("nowhere")
    assert refusal(lambda: open_run(Path("lost"), resume=False, overwrite=False)) == (
        "lost: a link to nowhere, which does not exist; mount or create that"
    )


def test_a_link_in_a_run_is_removed_and_not_followed() -> None:
    run_of(state="running")
    Path("weights").mkdir()
    Path("weights/kept").touch()
    Path("run/model").symlink_to(Path("weights").resolve())
    open_run(Path("run"), resume=False, overwrite=True)
    assert contents("run") == [] and contents("weights") == ["kept"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "model.bak", ".git", "adapter2", "data", "x\ny"])
def test_files_of_the_user_stay_and_are_listed(name: str, overwrite: bool) -> None:
    run_of(state="running")
    (Path("run") / name).mkdir()
    before = contents("run")
    message = refusal(lambda: open_run(Path("run"), resume=False, overwrite=overwrite))
    assert message.startswith(f"run: holds files that qdsft did not write ({name!a}), and nothing is deleted")
    assert contents("run") == before


@pytest.mark.parametrize(
    "path", ["model/my notes.txt", "runs/thesis.docx", "checkpoint-5/loss.py", "adapter/deep/results.csv", "merged/x"]
)
def test_files_of_the_user_inside_a_folder_of_the_run_stay(path: str) -> None:
    run_of(state="finished")
    for name in ("checkpoint-5/optimizer.pt", path):
        (Path("run") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("run") / name).write_text("x", encoding="utf-8")
    before = contents("run")
    message = refusal(lambda: open_run(Path("run"), resume=False, overwrite=True))
    assert f"holds files that qdsft did not write ({path!a}), and nothing is deleted" in message
    assert contents("run") == before


def test_a_link_to_itself_is_one_line() -> None:
    Path("run").symlink_to("run")
    refuse_inputs_inside(load_recipe("r.yaml", ["training.output_dir=run"]))
    assert "run: a link to run, which does not exist" in refusal(
        lambda: open_run(Path("run"), resume=False, overwrite=True)
    )


def test_a_checkpoint_of_another_name_stays() -> None:
    run_of(state="finished")
    Path("run/checkpoint-final").mkdir()
    message = refusal(lambda: open_run(Path("run"), resume=False, overwrite=True))
    assert "holds files that qdsft did not write ('checkpoint-final')" in message
    assert contents("run") == ["adapter", "checkpoint-final", "run.json"]


@pytest.mark.parametrize("content", ["{}", "[]", '{"state": "finished"}', '{"name": "another program"}', "", "{"])
def test_a_run_json_of_another_program_deletes_nothing(content: str) -> None:
    Path("mine").mkdir()
    Path("mine/run.json").write_text(content, encoding="utf-8")
    Path("mine/model").mkdir()
    Path("mine/model/thesis").touch()
    message = refusal(lambda: open_run(Path("mine"), resume=False, overwrite=True))
    assert message.startswith("mine/run.json: not the run.json of a run; delete the folder yourself, or choose another")
    assert contents("mine") == ["model", "model/thesis", "run.json"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.name_or_path", "run/model"),
        ("model.name_or_path", "./run/../run/model"),
        ("model.name_or_path", "linked"),
        ("model.name_or_path", "run"),
        ("data.train", "run/eval.jsonl"),
        ("data.eval", "run/eval.jsonl"),
        ("model.chat_template", "run/model/chat_template.jinja"),
        ("training.loss_type", "run/model/loss.py:loss"),
    ],
)
def test_inputs_of_a_run_cannot_be_in_its_directory(key: str, value: str) -> None:
    run_of(state="finished", artifact="model")
    Path("run/eval.jsonl").touch()
    Path("run/model/chat_template.jinja").touch()
    Path("run/model/loss.py").write_text("def loss(): ...", encoding="utf-8")
    Path("linked").symlink_to("run/model")
    recipe = load_recipe("r.yaml", ["training.output_dir=run", f"{key}={value}"])
    assert f"command line: {key}: " in refusal(lambda: refuse_inputs_inside(recipe))
    elsewhere = load_recipe("r.yaml", ["training.output_dir=run2", f"{key}={value}"])
    refuse_inputs_inside(elsewhere)


def test_resume_needs_a_run_and_keeps_it() -> None:
    nothing = "nothing to resume: run.json is missing; start without --resume"
    assert refusal(lambda: open_run(Path("none"), resume=True, overwrite=False)) == f"none: {nothing}"
    assert not Path("none").exists()
    run_of()
    open_run(Path("run"), resume=True, overwrite=False)
    assert contents("run") == ["run.json"]


@pytest.mark.parametrize("place", ["/proc/qdsft", "r.yaml/run"])
def test_a_place_that_cannot_be_written(place: str) -> None:
    message = refusal(lambda: open_run(Path(place), resume=False, overwrite=False))
    assert message.startswith(f"{place}: cannot be written: ")
    assert message.endswith("; free some space or choose another folder with training.output_dir")
