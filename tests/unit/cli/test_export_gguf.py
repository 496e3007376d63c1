"""`qdsft export-gguf` prints what was exported and checked, and passes on its options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_run import make_run

from qdsft.cli.main import main
from qdsft.deploy.gguf import export
from qdsft.deploy.gguf.export import Exported


@pytest.mark.parametrize(
    ("prompts", "equal", "said"),
    [
        (None, None, "token ids NOT checked with llama.cpp"),
        (2, None, "2 golden prompts have their trained token ids in llama.cpp"),
        (2, 1, "in llama.cpp, and 1 of 2 greedy answers are the run's"),
    ],
)
def test_the_checks_are_printed(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    prompts: int | None,
    equal: int | None,
    said: str,
) -> None:
    calls: list[dict[str, Any]] = []

    def stand_in(run_dir: Path, output: Path, **options: Any) -> Exported:
        calls.append(options)
        return Exported(21, prompts, equal, output.with_suffix(".Modelfile"))

    monkeypatch.setattr(export, "export_gguf", stand_in)
    run = make_run(tmp_path / "run", tiny_model("llama"))
    assert main(["export-gguf", str(run), "--output", "x.gguf", "--type", "q8_0"]) == 0
    assert main(["export-gguf", str(run), "--output", "x.gguf", "--trust-remote-code"]) == 0
    captured = capsys.readouterr()
    assert "x.gguf: q8_0, 21 tensors" in captured.out and said in captured.out
    assert "ollama create NAME -f x.Modelfile" in captured.err
    assert [call["trust_remote_code"] for call in calls] == [False, True]
