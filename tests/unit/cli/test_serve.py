"""`qdsft serve`: what follows -- belongs to the engine, and the options reach the server or the request."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.ports import free_port
from helpers.tiny_run import make_run

from qdsft.cli.main import main
from qdsft.cli.serve import split
from qdsft.deploy.chat_rules import Answers


def test_what_follows_the_dashes_belongs_to_the_engine() -> None:
    assert split(["serve", "run", "--port", "1", "--", "--port", "--", "2"]) == (
        ["serve", "run", "--port", "1"],
        ["--port", "--", "2"],
    )
    assert split(["serve", "run"]) == (["serve", "run"], [])
    assert split(["data", "check", "--", "x"]) == (["data", "check", "--", "x"], [])


def test_options_reach_the_server(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    given: list[Any] = []

    def serve(*_: Any, answers: Answers, extra: list[str], **__: Any) -> int:
        given.append((answers, extra))
        return 0

    monkeypatch.setattr("qdsft.deploy.serve.serve", serve)
    assert main(["serve", str(run_dir), "--constrained", "--only-decompositions", "--", "--compile"]) == 0
    assert main(["serve", str(run_dir)]) == 0
    assert given == [(Answers(constrained=True, only_decompositions=True), ["--compile"]), (Answers(), [])]


def test_constrained_requests_are_for_decompositions(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = str(make_run(tmp_path / "run", tiny_model("llama")))
    assert main(["serve", run_dir, "--request", "Who?", "--constrained"]) == 0
    assert json.loads(capsys.readouterr().out)["response_format"] == {"type": "decomposition"}
    free = ("prompt.user={{ question }}", "prompt.completion={{ answer }}")
    text_run = str(make_run(tmp_path / "text", tiny_model("llama"), "tiny/full", *free))
    assert main(["serve", text_run, "--request", "Who?", "--constrained"]) == 1
    assert "--constrained is for decompositions" in capsys.readouterr().err
    port = str(free_port())
    for options in (["--engine", "vllm", "--constrained"], ["--constrained", "--", "--continuous-batching"]):
        assert main(["serve", run_dir, "--port", port, *options]) == 1
        assert capsys.readouterr().err.splitlines()[-1].endswith(("leave them out", "serve without it"))
