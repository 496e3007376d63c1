"""`qdsft demo`: what is refused before the page opens, its examples, and decoding that can be stopped."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.demo_page import writes
from helpers.ports import free_port
from helpers.tiny_run import make_run

pytest.importorskip("gradio", reason="the extra demo is not installed")

from gradio import networking

from qdsft import optional_packages
from qdsft.cli.main import build_parser, main
from qdsft.deploy.demo import app
from qdsft.deploy.demo.page import build_page
from qdsft.deploy.listening import listen
from qdsft.errors import UserError
from qdsft.inference.generate import Answer
from qdsft.inference.loaded_run import load_run
from qdsft.inference.side_by_side import Column

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run_dir(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "long", tiny_model("llama"))


def unfinished(run_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "unfinished"
    folder.mkdir()
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps({**manifest, "state": "running"}), encoding="utf-8")
    return folder


def test_errors_are_one_line(run_dir: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert main(["demo", *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and err.startswith("error: ")
        return err

    assert "no run directory" in said(tmp_path / "nothing")
    assert "no run directory" in said(run_dir, tmp_path / "nothing")
    assert "no run directory" in said(run_dir, "--base", tmp_path / "nothing")
    assert "has not finished; " in said(unfinished(run_dir, tmp_path))
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: " in (error := said(run_dir, "--port", port)) and "Address already in use" in error
    assert "--host no.such.host.invalid: " in said(run_dir, "--host", "no.such.host.invalid")
    monkeypatch.setattr(optional_packages, "find_spec", lambda name: None if name == "gradio" else object())
    assert "qdsft demo requires gradio; install with: pip install -e '" in said(run_dir)
    with pytest.raises(SystemExit, match="2"):
        main(["demo", str(run_dir), "--port", "70000"])


def test_only_this_machine_is_the_default() -> None:
    options = build_parser().parse_args(["demo", "run"])
    assert (options.host, options.share) == ("127.0.0.1", False)
    assert build_parser().parse_args(["demo", "run", "--share"]).share is True


def test_a_port_taken_while_models_load_is_one_line() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match="cannot be served"):
        app.launch(build_page([writes("a", "1. b")], []), "127.0.0.1", taken.getsockname()[1], ["*"], share=False)


@pytest.mark.slow
@pytest.mark.parametrize("works", [True, False])
def test_share_says_so_before_the_tunnel_opens(
    run_dir: Path, works: bool, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def tunnel(**_: Any) -> str:
        said.append(capsys.readouterr().err)
        if not works:
            raise RuntimeError("no network")
        return "http://abc.gradio.live"

    def sleep(_seconds: float) -> None:  # simulates Ctrl-C
        raise KeyboardInterrupt

    monkeypatch.setattr(networking, "setup_tunnel", tunnel)
    monkeypatch.setattr(app, "time", SimpleNamespace(sleep=sleep))
    assert main(["demo", str(run_dir), "--share", "--port", str(free_port())]) == (0 if works else 1)
    assert "warning: --share opens a public tunnel" in said[0]
    out, err = capsys.readouterr()
    assert out == ""
    if works:
        assert "open https://abc.gradio.live (Ctrl-C ends)" in err
    else:
        assert re.fullmatch("error: --share: [^\n]+\n", err)


def test_examples_are_held_out_questions_or_else_fixed_ones(run_dir: Path) -> None:
    run = load_run(run_dir)
    assert app.examples(run) == [*app.EXAMPLES["en"], *app.EXAMPLES["ko"]]
    rows = [{"question": text, "sub_questions": ["a"]} for text in ("one?", "one?", "two?", "three?", "four?")]
    lines = [
        {"row": row, "messages": [{"role": "user", "content": row["question"]}], "completion": "1. a"} for row in rows
    ]
    kept = run_dir / "eval.jsonl"
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    try:
        assert app.examples(run) == ["one?", "two?", "three?", *app.EXAMPLES["ko"]]
    finally:
        kept.unlink()


class Endless:
    """A run that decodes until its reader leaves."""

    def __init__(self) -> None:
        self.decoding = threading.Event()
        self.task = SimpleNamespace(typed_record=str, messages=lambda record: [record])

    @contextmanager
    def ready(self) -> Iterator[Any]:
        yield self

    def watch(self, messages: list[str], on_text: Callable[[str], None], *, constrained: bool) -> Answer:
        assert not self.decoding.is_set(), "two answers are decoded at once"
        self.decoding.set()
        try:
            for count in range(1, 10_000):
                on_text("x" * count)
                time.sleep(0.001)
                if messages == ["short"] and count == 5:
                    return Answer("xxxxx", True, 5)
            raise AssertionError("nobody stopped it")
        finally:
            self.decoding.clear()


def column(run: Any) -> Column:
    found: Column = run
    return found


def test_decoding_stops_when_its_reader_leaves_and_the_next_one_waits_for_that() -> None:
    run, decoder = Endless(), app.Decoder(constrained=False)
    left = decoder.stream(column(run), "long")
    assert next(left) and run.decoding.is_set()
    left.close()
    seen = list(decoder.stream(column(run), "short"))
    assert seen[-1] == Answer("xxxxx", True, 5) and all(isinstance(text, str) for text in seen[:-1])

    waiting = decoder.stream(column(run), "long")
    next(waiting)
    decoder.close()
    assert not run.decoding.is_set()
    assert all(isinstance(text, str) for text in waiting)


def test_an_error_while_decoding_reaches_the_reader() -> None:
    class Refuses(Endless):
        def watch(self, messages: list[str], on_text: Callable[[str], None], *, constrained: bool) -> Answer:
            raise UserError("no room")

    with pytest.raises(UserError, match="no room"):
        list(app.Decoder(constrained=False).stream(column(Refuses()), "q"))
