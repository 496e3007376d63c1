"""Who may open a run directory, and what is deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import RECIPE, manifest_of

from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.runs.directory import open_run
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


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


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
def test_what_is_no_run_is_never_deleted(overwrite: bool) -> None:
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


def test_overwrite_does_not_follow_a_link() -> None:
    run_of()
    Path("link").symlink_to("run")
    assert refusal(lambda: open_run(Path("link"), resume=False, overwrite=True)).startswith("link: cannot be written:")
    assert contents("run") == ["run.json"]


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
