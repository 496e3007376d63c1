"""`qdsft runs`: every state that a run directory can be in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import RECIPE, manifest_of
from helpers.paths import ROOT

from qdsft.cli.main import main
from qdsft.files import exclusive
from qdsft.recipe import load_recipe
from qdsft.runs.listing import list_runs
from qdsft.runs.manifest import write_manifest


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")


def run_of(name: str, *overrides: str, **changes: Any) -> Path:
    folder = Path("outputs") / name
    folder.mkdir(parents=True)
    write_manifest(folder, manifest_of(load_recipe("r.yaml", overrides), **changes))
    return folder


def checkpoint(folder: Path, step: int) -> None:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    for name in ("trainer_state.json", "optimizer.pt", "scheduler.pt", "model.safetensors"):
        (path / name).write_text(json.dumps({"global_step": step, "max_steps": 100}))


def states() -> dict[str, str]:
    return {Path(run.path).name: run.state for run in list_runs(Path("outputs"))}


def test_every_state() -> None:
    finished = run_of("finished", state="finished", results={"steps": 7})
    (finished / "adapter").mkdir()
    (finished / "metrics.json").write_text(json.dumps({"tuned": {"sari": 0.5, "valid": 1.0, "samples": 3}}))
    (finished / "adapter" / "w").write_bytes(b"x" * 5000)
    merged = run_of("merged", state="finished", artifact="model")
    for name in ("config.json", "merge.json"):
        (merged / name).write_text("{}")
    stopped = run_of("stopped")
    for step in (5, 20, 100):
        checkpoint(stopped, step)
    (stopped / "checkpoint-100" / "optimizer.pt").unlink()
    (run_of("early") / "log.jsonl").write_text("{}")
    run_of("nothing")
    run_of("lost", state="finished")  # its adapter was deleted
    (run_of("damaged") / "run.json").write_text("{")
    Path("outputs/no-run").mkdir()
    assert states() == {
        "damaged": "damaged",
        "early": "interrupted before the first checkpoint",
        "finished": "finished",
        "lost": "failed start",
        "merged": "merged model",
        "nothing": "failed start",
        "stopped": "interrupted at step 20",
    }
    found = {Path(run.path).name: run for run in list_runs(Path("outputs"))}
    assert found["finished"].metrics == {"sari": 0.5, "valid": 1.0} and found["finished"].steps == 7
    assert found["stopped"].steps == 20 and found["damaged"].model is None
    assert found["finished"].bytes == sum(path.stat().st_size for path in finished.rglob("*") if path.is_file())
    assert (found["nothing"].model, found["nothing"].data, found["nothing"].task) == ("m", "t.jsonl", "decomposition")
    assert found["nothing"].method == "full fine-tuning"


def test_a_run_that_trains_is_seen_by_its_lock() -> None:
    folder = run_of("now")
    with exclusive(folder):
        assert states() == {"now": "training now"}
        assert states() == {"now": "training now"}  # looking takes nothing away
    assert states() == {"now": "failed start"}
    Path("outputs/.now.lock").touch()  # left by a process that was killed
    assert states() == {"now": "failed start"}


def test_the_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    run_of("a", "lora={}", "quantization.load_in_4bit=true", state="running")
    run_of("b", "prompt.user={{ x }}", "prompt.completion={{ y }}")
    (Path("outputs/b") / "metrics.json").write_text("[1]")
    assert main(["runs"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "model", "method", "data", "size", "metrics"]
    assert first.startswith("a    failed start") and "QLoRA, rank 8" in first and "(free text)" in second
    assert main(["runs", "outputs/b", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["path"] == "outputs/b" and found["task"] == "free text" and found["metrics"] == {}


def test_no_folder_and_no_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 1
    assert capsys.readouterr().err.startswith("error: outputs: no such folder; give the one that holds")
    Path("outputs").mkdir()
    assert main(["runs"]) == 0
    assert capsys.readouterr().err == "no runs in outputs\n"
    assert main(["runs", "--json"]) == 0 and json.loads(capsys.readouterr().out) == []
    shutil.rmtree("outputs")
    Path("outputs").write_text("a file")
    assert main(["runs"]) == 1


@pytest.mark.parametrize("command", ["runs", "merge", "push"])
def test_help_loads_nothing_heavy(command: str) -> None:
    code = (
        f"import sys\nfrom qdsft.cli.main import main\ntry: main(['{command}', '--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "set()" and "usage: qdsft" in done.stdout
