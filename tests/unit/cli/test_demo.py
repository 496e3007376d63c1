"""`qdsft demo` as it is typed; tests/integration/test_demo.py opens the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import make_run

pytest.importorskip("gradio", reason="the extra demo is not installed")

from qdsft.cli.main import main


@pytest.fixture(scope="module")
def run_dir(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", tiny_model("llama"))


def test_export_says_how_to_upload(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my space"
    assert main(["demo", str(run_dir), "--export", str(folder)]) == 0
    assert f"upload with: hf upload USER/NAME '{folder}' --repo-type space" in "".join(capsys.readouterr())
    assert (folder / "app.py").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--export", "."], ". exists; delete it or choose another --export"),
        (["--export", "new", "--trust-remote-code"], "code of a model does not run in a server that others can reach"),
    ],
)
def test_errors_are_one_line(
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", str(run_dir), *options]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not list(tmp_path.iterdir())
