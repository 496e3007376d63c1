"""A sweep: planning, resuming and ranking with a stand-in for the commands, and one real one."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.paths import ROOT

from qdsft.data.split import SplitTally, stream_split
from qdsft.errors import Interrupted, UserError
from qdsft.recipe import load_recipe
from qdsft.runs.facts import BaseModelFacts, DataFacts, DeviceFacts, ResultFacts, TokenFacts
from qdsft.runs.manifest import GoldenPrompt, Manifest, make_fingerprint, read_manifest, write_manifest
from sweeps.grid import parse_grid
from sweeps.sweep import plan_runs, sweep
from sweeps.sweep_results import table

RECIPE = str(ROOT / "recipes" / "qwen3_4b" / "qlora_8gb.yaml")
DATA = f"data.train={ROOT / 'data' / 'examples' / 'sample_train.jsonl'}"
PNG_HEADER = b"\x89PNG\r\n"
GRID = (DATA, "training.learning_rate=1e-4,2e-4", "lora.r=8,16")


class Commands:
    """Replace the processes: `train` writes a run with a loss computed from its values, `evaluate` scores it."""

    def __init__(self, statuses: dict[str, int] | None = None) -> None:
        self.words: list[list[str]] = []
        self.statuses = statuses or {}
        """Part of a run's folder -> the exit status with which its training breaks off."""

    def __call__(self, words: Sequence[str]) -> int:
        self.words.append(list(words))
        if words[0] == "evaluate":
            run_dir = Path(words[1])
            rate = read_manifest(run_dir).recipe["training"]["learning_rate"]
            metrics = {"tuned": {"sari": rate * 1000, "loss": 1.0, "samples": 4}}
            (run_dir / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
            return 0
        recipe = load_recipe(words[1], [word for word in words[2:] if not word.startswith("--")])
        recipe.run_dir.mkdir(parents=True, exist_ok=True)
        status = next((code for part, code in self.statuses.items() if part in recipe.run_dir.name), 0)
        loss = recipe.training["learning_rate"] * 1e4 + (recipe.lora or {})["r"]
        lines = [{"step": 1, "loss": 9.0}, {"step": 1, "eval_loss": 99.0}, {"step": 2, "eval_loss": loss}]
        (recipe.run_dir / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        tally = SplitTally()
        for side, example in stream_split(recipe):
            tally.add(side, example)
        data = DataFacts.model_validate(tally.summary())
        manifest = Manifest(
            state="running" if status else "finished",
            recipe_path=str(recipe.path),
            recipe=recipe.resolved(),
            origins=dict(recipe.origins),
            fingerprint=make_fingerprint(recipe, data, "template", 2),
            data=data,
            tokens=TokenFacts(),
            template_sha256="0" * 64,
            golden_prompts=[GoldenPrompt(messages=[{"role": "user", "content": "q"}], ids=[1])],
            stop_token_ids=[2],
            base_model=BaseModelFacts(name_or_path="m"),
            artifact="adapter",
            versions={},
            git=None,
            device=DeviceFacts(),
            results=ResultFacts(seconds_training=3.4),
        )
        write_manifest(recipe.run_dir, manifest)
        return status

    def trained(self) -> list[str]:
        folders = [word.partition("=")[2] for words in self.words for word in words if "training.output_dir=" in word]
        return [Path(folder).name for folder in folders]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*overrides: str, **options: Any) -> str:
    commands = Commands()
    with pytest.raises(UserError) as caught:
        sweep(RECIPE, overrides, execute=commands, **options)
    assert commands.words == [] and "\n" not in str(caught.value)
    return str(caught.value)


def test_every_combination_is_trained_in_its_folder_and_ranked() -> None:
    commands = Commands()
    results = sweep(RECIPE, GRID, execute=commands)
    folder = Path("outputs/sweeps/qwen3_4b-qlora_8gb")
    assert commands.trained() == [
        f"training.learning_rate={rate}_lora.r={rank}" for rate in ("1e-4", "2e-4") for rank in (8, 16)
    ]
    assert all(words[:2] == ["train", RECIPE] and "--resume" not in words for words in commands.words)
    assert [row["metrics"]["loss"] for row in results["runs"]] == [9.0, 10.0, 17.0, 18.0]
    assert results["best"] == str(folder / "training.learning_rate=1e-4_lora.r=8")
    assert json.loads((folder / "sweep.json").read_text(encoding="utf-8")) == results
    assert (folder / "sweep.md").read_text(encoding="utf-8").splitlines() == [
        "| run | training.learning_rate | lora.r | loss | seconds | state |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 1 | 1e-4 | 8 | 9.0000 | 3 | finished |",
        "| 2 | 2e-4 | 8 | 10.0000 | 3 | finished |",
        "| 3 | 1e-4 | 16 | 17.0000 | 3 | finished |",
        "| 4 | 2e-4 | 16 | 18.0000 | 3 | finished |",
    ]
    assert (folder / "sweep.png").read_bytes().startswith(PNG_HEADER)


def test_runs_log_a_loss_of_held_out_rows_as_large_as_their_batches() -> None:
    commands = Commands()
    sweep(RECIPE, GRID, execute=commands)
    for words in commands.words:
        assert {"training.eval_strategy=epoch", "training.per_device_eval_batch_size=1"} <= set(words)


def test_finished_runs_are_skipped_and_stopped_runs_resumed() -> None:
    commands = Commands({"2e-4_lora.r=8": 143})
    with pytest.raises(Interrupted, match="stopped; run the same command again") as caught:
        sweep(RECIPE, GRID, execute=commands)
    assert caught.value.status == 143 and len(commands.words) == 3
    assert not Path("outputs/sweeps/qwen3_4b-qlora_8gb/sweep.json").exists()
    again = Commands()
    results = sweep(RECIPE, GRID, execute=again)
    assert again.trained() == ["training.learning_rate=2e-4_lora.r=8", "training.learning_rate=2e-4_lora.r=16"]
    assert ["--resume" in words for words in again.words] == [True, False]
    assert len(results["runs"]) == 4
    grown = Commands()
    sweep(RECIPE, (DATA, "training.learning_rate=1e-4,2e-4", "lora.r=8,16,32"), execute=grown)
    assert grown.trained() == [f"training.learning_rate={rate}_lora.r=32" for rate in ("1e-4", "2e-4")]


def test_a_run_that_fails_stops_no_other_and_is_tried_again() -> None:
    results = sweep(RECIPE, GRID, execute=Commands({"1e-4_lora.r=8": 1}))
    assert [row["state"] for row in results["runs"]] == ["finished"] * 3 + ["failed"]
    assert results["runs"][-1]["metrics"] == {} and "| 4 | 1e-4 | 8 |  |  | failed |" in table(results)
    again = Commands()
    assert sweep(RECIPE, GRID, execute=again)["runs"][0]["values"]["lora.r"] == "8"
    assert again.trained() == ["training.learning_rate=1e-4_lora.r=8"]


def test_if_all_fail_there_is_no_best_and_no_picture() -> None:
    results = sweep(RECIPE, GRID, execute=Commands({"lora": 1}))
    assert results["best"] is None
    assert not Path("outputs/sweeps/qwen3_4b-qlora_8gb/sweep.png").exists()


def test_a_loss_that_is_no_number_ranks_last(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands()

    def diverge(words: Sequence[str]) -> int:
        status = commands(words)
        if "lora.r=8" in words and "training.learning_rate=1e-4" in words:
            log = Path(f"outputs/sweeps/qwen3_4b-qlora_8gb/{commands.trained()[-1]}/log.jsonl")
            log.write_text('{"step": 2, "eval_loss": NaN}\n', encoding="utf-8")
        return status

    results = sweep(RECIPE, GRID, execute=diverge)
    assert results["runs"][-1]["values"] == {"training.learning_rate": "1e-4", "lora.r": "8"}
    assert results["runs"][-1]["metrics"] == {}


def test_another_metric_is_that_of_evaluate_and_higher_is_better() -> None:
    commands = Commands()
    results = sweep(RECIPE, GRID, metric="sari", evaluate=True, execute=commands)
    assert [words[0] for words in commands.words] == ["train", "evaluate"] * 4
    assert results["better"] == "higher" and "2e-4" in results["best"]
    assert results["runs"][0]["metrics"]["loss"] == 1.0
    again = Commands()
    sweep(RECIPE, GRID, metric="sari", evaluate=True, execute=again)
    assert again.words == []


def test_a_folder_with_other_values_or_data_is_refused() -> None:
    sweep(RECIPE, GRID, execute=Commands())
    said = refusal(*GRID, "training.num_train_epochs=7")
    assert "training.learning_rate=1e-4_lora.r=8: training.num_train_epochs has changed since the run began" in said
    assert said.endswith("(was 3, now 7); undo the change, choose another --name, or delete that folder")
    rows = (ROOT / "data/examples/sample_train.jsonl").read_text(encoding="utf-8").splitlines()
    Path("fewer.jsonl").write_text("\n".join(rows[:50]) + "\n", encoding="utf-8")
    assert "data.train has changed" in refusal("data.train=fewer.jsonl", *GRID[1:])
    commands = Commands()
    sweep(RECIPE, (*GRID, "training.num_train_epochs=7"), name="longer", execute=commands)
    assert len(commands.words) == 4 and Path("outputs/sweeps/longer/sweep.md").is_file()


@pytest.mark.parametrize(
    ("overrides", "options", "said"),
    [
        (("lora.r=8",), {}, "nothing varies"),
        (("lora.r=8,x",), {}, "command line: lora.r must be a whole number"),
        (("lora.rank=8,16",), {}, "lora.rank is called r"),
        (("lora.r=16,16.0",), {}, "lora.r must be a whole number"),
        (
            ("training.learning_rate=1e-4,0.0001",),
            {},
            "=0.0001 and training.learning_rate=1e-4 are the same",
        ),
        (("training.per_device_train_batch_size=1,3",), {}, "is not a multiple of per_device_train_batch_size"),
        (("lora.r=8,16", "data.eval_fraction=0"), {}, "a sweep compares runs on held-out rows, and there are none"),
        (("lora.r=8,16",), {"metric": "sary"}, "--metric sary: not a metric of these runs; choose one of exact_match"),
        (("lora.r=8,16",), {"metric": "sari"}, "--metric sari requires answers; add --evaluate"),
        (("lora.r=8,16",), {"name": "../x"}, "--name ../x: give a folder name without slashes"),
        (("lora.r=8,16",), {"name": ".."}, "--name ..: give a folder name without slashes"),
    ],
)
def test_impossible_grids_are_refused_before_training(
    overrides: tuple[str, ...], options: dict[str, Any], said: str
) -> None:
    assert said in refusal(DATA, *overrides, **options)
    assert not Path("outputs").exists()


def test_the_page_s_commands_plan_their_runs() -> None:
    text = (ROOT / "docs" / "SWEEPS.md").read_text(encoding="utf-8")
    commands = [shlex.split(line)[2:] for line in text.splitlines() if line.startswith("python scripts/sweep.py")]
    assert len(commands) == 2
    for path, *words in commands:
        overrides = [word for word in words if "=" in word]
        assert len(plan_runs(str(ROOT / path), parse_grid(overrides), Path("x"))) == 4


def test_the_script_says_an_error_in_one_line(
    load_script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_script("sweep").main([RECIPE, "lora.r=8"]) == 1
    assert capsys.readouterr().err.startswith("error: nothing varies; ")
    assert load_script("sweep").main(["no.yaml", "lora.r=8,16"]) == 1
    assert capsys.readouterr().err.startswith("error: no.yaml: No such file")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_sweep_of_two_by_two_is_stopped_and_resumed(
    tiny_model: Callable[[str], Path], elsewhere: Path, quick_python: str
) -> None:
    words = [f"model.name_or_path={tiny_model('qwen3')}", DATA, "training.max_steps=2", *GRID[1:], "--name", "two"]
    command = [quick_python, str(ROOT / "scripts" / "sweep.py"), RECIPE, *words]
    folder = elsewhere / "outputs" / "sweeps" / "two"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        waited = time.monotonic() + 120
        while not list(folder.glob("*r=16/run.json")) and time.monotonic() < waited:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode in {130, 143}, err
    assert out == "" and "run the same command again to continue" in err and "Traceback" not in err
    (first,) = folder.glob("*1e-4_lora.r=8")
    before = (first / "run.json").read_bytes()

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert f"{first.relative_to(elsewhere)}: already finished; not trained again" in done.stderr
    assert (first / "run.json").read_bytes() == before
    results = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    assert [row["state"] for row in results["runs"]] == ["finished"] * 4
    losses = [row["metrics"]["loss"] for row in results["runs"]]
    assert losses == sorted(losses) and 0 < losses[0] < 20 and len(set(losses)) > 1
    assert done.stdout == (folder / "sweep.md").read_text(encoding="utf-8")
    assert (folder / "sweep.png").read_bytes().startswith(PNG_HEADER)
    ranks = {read_manifest(elsewhere / row["run_dir"]).recipe["lora"]["r"] for row in results["runs"]}
    assert ranks == {8, 16}
    shutil.rmtree(folder)
