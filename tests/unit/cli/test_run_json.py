"""A command reads run.json once and passes it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_run import make_run

from qdsft.cli.main import main
from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.runs.eval_rows import write_eval_rows
from qdsft.runs.layout import MANIFEST
from qdsft.runs.manifest import read_manifest, write_manifest

QUESTION = "Who is older, A or B?"


@pytest.fixture(scope="module")
def run_dir(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with one held-out row."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "run", tiny_model("llama"), lora_scale=0.1)
    row = {"question": QUESTION, "sub_questions": ["How old is A?", "How old is B?", "Is #1 more than #2?"]}
    messages = tuple(read_manifest(folder).golden_prompts[0].messages)
    write_eval_rows(folder, [Example(Record(row, "x.jsonl:1"), messages, "1. How old is A?")])
    manifest = read_manifest(folder)
    manifest.data.eval_rows = 1
    write_manifest(folder, manifest)
    return folder


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["decompose", QUESTION], 0),
        (["decompose", "--input", "q.txt", "--output", "out.jsonl"], 0),
        (["evaluate"], 0),
        (["merge", "--output", "merged"], 0),
        (["serve", "--request", QUESTION], 0),
        (["export-gguf", "--output", "x.gguf"], 1),  # an adapter; refused after run.json was read
        (["push", "--repo-id", "user/name"], 1),  # there is no token
    ],
)
def test_a_command_reads_run_json_once(
    run_dir: Path, command: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qdsft.model.hub.get_token", lambda: None)
    Path("q.txt").write_text(f"{QUESTION}\n", encoding="utf-8")
    opened: list[Path] = []
    open_path = Path.open

    def counting(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if path == run_dir / MANIFEST and "r" in mode:
            opened.append(path)
        return open_path(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", counting)
    assert main([command[0], str(run_dir), *command[1:]]) == status
    assert len(opened) == 1
