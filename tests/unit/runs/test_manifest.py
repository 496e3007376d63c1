"""The run directory: its manifest, who may open it, and what a resume must share."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import DATA, RECIPE, manifest_of

from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.hashing import text_sha256
from qdsft.recipe import load_recipe
from qdsft.runs.directory import open_run
from qdsft.runs.eval_rows import read_eval_rows, write_eval_rows
from qdsft.runs.facts import DataFacts
from qdsft.runs.manifest import check_resume, fingerprint, read_finished, read_manifest, write_manifest
from qdsft.runs.provenance import git_commit, versions


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
    assert refusal(lambda: read_manifest(Path("run"))) == "run/run.json: Is a directory"


def test_a_finished_run_is_one_whose_artifact_is_there() -> None:
    unfinished = "run: this run has not finished; resume it with: qdsft train r.yaml --resume"
    run_of()
    assert refusal(lambda: read_finished(Path("run"))) == unfinished
    run_of(state="finished")
    assert read_finished(Path("run")).state == "finished"
    Path("run/adapter").rmdir()
    assert refusal(lambda: read_finished(Path("run"))) == unfinished


# eval.jsonl


def test_held_out_rows_come_back() -> None:
    row = {"question": "한국?\u2028", "sub_questions": ["a"], "id": 7}
    messages = ({"role": "system", "content": "s"}, {"role": "user", "content": "한국?"})
    run_of()
    write_eval_rows(Path("run"), [Example(Record(row, "t.jsonl:9"), messages, "1. a")] * 2)
    assert read_eval_rows(Path("run")) == [
        Example(Record(row, f"run/eval.jsonl:{line}"), messages, "1. a") for line in (1, 2)
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "q"}', "run/eval.jsonl:1: damaged, or written by another version of qdsft; train again"),
        ('{"row": {}, "messages": "x", "completion": "y"}', "run/eval.jsonl:1: damaged, or written by another"),
        ('{"row": [], "messages": [], "completion": "y"}', "run/eval.jsonl:1: damaged, or written by another"),
        ('{"row": {}, "messages": [], "comple', "run/eval.jsonl:1: not JSON at column"),
        ("", "run/eval.jsonl: there are no rows; give a file with at least one"),
    ],
)
def test_damaged_held_out_rows(line: str, message: str) -> None:
    run_of()
    Path("run/eval.jsonl").write_text(line, encoding="utf-8")
    assert refusal(lambda: read_eval_rows(Path("run"))).startswith(message)


def test_held_out_rows_that_are_missing() -> None:
    run_of()
    assert refusal(lambda: read_eval_rows(Path("run"))).startswith("run/eval.jsonl: No such file or directory")


# Opening


def contents(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def test_a_fresh_run_makes_its_folder_and_leaves_it_empty() -> None:
    open_run(Path("a/b/run"), resume=False, overwrite=False)
    assert contents("a/b/run") == []
    open_run(Path("a/b/run"), resume=False, overwrite=False)  # an empty folder is free
    open_run(Path("a/b/run"), resume=False, overwrite=True)


IN_USE = "add --resume to go on, --overwrite to delete it, or choose another folder with training.output_dir=..."


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
    foreign = "holds files that are no run of qdsft; choose another folder with training.output_dir=..."
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


# Resuming


def resume_with(*overrides: str, data: DataFacts = DATA, template: str = "x", world: int = 1) -> None:
    now = fingerprint(load_recipe("r.yaml", overrides), data, template, world)
    check_resume(Path("run"), read_manifest(Path("run")).fingerprint, now)


def test_a_run_goes_on_with_the_same_inputs() -> None:
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
        "publish.private=false",
    ],
)
def test_what_does_not_shape_the_weights_may_change(override: str) -> None:
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
    assert refusal(lambda: resume_with(data=DATA.model_copy(update={"train_sha256": "new"}))) == (
        f"run: data has changed since the run began (was ['t', 'e'], now ['new', 'e']){REMEDY}"
    )
    assert refusal(lambda: resume_with(template="y")) == (
        f"run: template has changed since the run began (was x, now y){REMEDY}"
    )
    assert refusal(lambda: resume_with(world=2)) == (
        "run: this run started with 1 processes and cannot resume with 2; launch it as before, or start again with "
        "--overwrite"
    )


# Facts


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert "pydantic" not in found
    assert all(isinstance(version, str) and version for version in found.values())


def test_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "x")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "x@x")
    assert git_commit() is None
    subprocess.run(["git", "init", "-q"], check=True)
    assert git_commit() is None  # no commit yet
    subprocess.run(["git", "add", "r.yaml"], check=True)
    subprocess.run(["git", "commit", "-q", "-m", "x", "--no-gpg-sign"], check=True)
    commit = git_commit()
    assert commit is not None and len(commit) == 40
    Path("r.yaml").write_text("changed", encoding="utf-8")
    assert git_commit() == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_commit() is None


def test_text_sha256() -> None:
    assert text_sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_manifest_is_plain_json() -> None:
    folder = run_of()
    assert (
        json.loads((folder / "run.json").read_text(encoding="utf-8"))["recipe"]["training"]["learning_rate"] == 0.0002
    )
