"""`qdsft evaluate --predictions`: the scores of any system, with BREAK's recorded results and without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT, TEST_DATA

from qdsft.cli.main import main
from qdsft.data.synth import generate_mixed
from qdsft.scoring.compare import read_scored_predictions
from qdsft.scoring.score_files import score_files

OFFICIAL = TEST_DATA / "break_official_99"
ROWS = list(generate_mixed(["en", "ko"], 40, 3))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    Path("g.jsonl").write_text("\n".join(lines), encoding="utf-8")
    Path("p.jsonl").write_text("\n".join(lines[::-1]), encoding="utf-8")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["evaluate", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error.removeprefix("error: ").rstrip("\n")


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"BREAK's recorded official results are not in {OFFICIAL}")
def test_break_equals_the_official_evaluator() -> None:
    recorded = json.loads((OFFICIAL / "metrics.json").read_text(encoding="utf-8"))
    found = score_files(OFFICIAL / "predictions.csv", OFFICIAL / "labels.csv")["tuned"]
    assert found.samples == 99
    for name in ("exact_match", "sari"):
        assert found.means[name] == pytest.approx(recorded[name], rel=0, abs=1e-9)
    assert sum(group.samples for group in found.groups["source"].values()) == 99
    assert "CLEVR" in found.groups["source"]


def test_files_are_written_and_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--predictions", "p.jsonl", "--gold", "g.jsonl", "--output", "new/scores"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == ["40 rows, predictions matched by question", "written to new/scores"]
    assert out.splitlines()[0].split() == ["metric", "score", "95", "%", "interval"]
    assert "exact match                    1.000    1.000 to 1.000" in out.splitlines()
    assert sorted(path.name for path in Path("new/scores").iterdir()) == [
        "metrics.json",
        "predictions.jsonl",
        "report.html",
    ]
    assert "<h1>scores</h1>" in Path("new/scores/report.html").read_text(encoding="utf-8")
    metrics = json.loads(Path("new/scores/metrics.json").read_text(encoding="utf-8"))
    assert metrics["tuned"]["exact_match"] == 1.0 and metrics["tuned"]["groups"]["language"]["ko"]["samples"] == 20
    rows = [json.loads(line) for line in Path("new/scores/predictions.jsonl").read_text("utf-8").splitlines()]
    assert [row["question"] for row in rows] == [row["question"] for row in ROWS]
    assert [row["language"] for row in rows] == [row["language"] for row in ROWS]
    assert all(row["stopped"] is None and row["scores"]["step_f1"] == 1.0 for row in rows)
    assert len(read_scored_predictions(Path("new/scores")).rows) == 40


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--predictions", "p.jsonl", "--gold", "g.jsonl", "--output"]
    assert refused(capsys, *files, ".") == ". exists and is not an empty folder; delete it or choose another one"
    assert refused(capsys, *files, "p.jsonl").startswith("p.jsonl exists and is not an empty folder")
    assert sorted(path.name for path in Path().iterdir()) == ["g.jsonl", "p.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "nothing to evaluate; give a run directory, or --predictions and --gold"),
        ("--predictions p.jsonl", "--gold is missing; give the predictions and the gold answers"),
        ("--gold g.jsonl", "--predictions is missing; give the predictions and the gold answers"),
        ("run --predictions p.jsonl --gold g.jsonl", "RUN_DIR and --predictions contradict each other; give one of"),
        ("--baseline --predictions p.jsonl --gold g.jsonl", "--baseline and --predictions contradict each other; giv"),
        ("--samples 3 --predictions p.jsonl --gold g.jsonl", "--samples works with a run directory only; leave it out"),
        ("run --output x", "--output works with --predictions only; a run is scored in its own directory"),
        ("--baseline run", "run: no run directory (run.json is missing)"),
        ("--predictions nope --gold g.jsonl", "nope: No such file or directory (looked at /"),
    ],
)
def test_bad_input_is_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *arguments.split()).startswith(message)


@pytest.mark.parametrize(
    "arguments",
    ["evaluate --predictions p.jsonl --gold g.jsonl --output a", "compare p p --output c.html", "compare p p --json"],
)
def test_torch_is_not_loaded(arguments: str) -> None:
    score_files(Path("p.jsonl"), Path("g.jsonl"), output=Path("p"))
    code = (
        f"import sys; from qdsft.cli.main import main; assert main({arguments.split()!r}) == 0; "
        "heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
