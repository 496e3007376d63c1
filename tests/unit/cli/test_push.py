"""`qdsft push`: what it prints, with the stage replaced."""

from __future__ import annotations

import pytest

from qdsft.cli.main import build_parser, main
from qdsft.deploy.push import Pushed

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("is_new", [True, False])
def test_push_prints_where_it_went(is_new: bool, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qdsft.runs.manifest.read_finished", lambda run_dir: None)
    pushed = Pushed("https://hub/kim/x", "c", ("README.md", "run.json"), is_new)
    monkeypatch.setattr("qdsft.deploy.push.push", lambda *_, **__: pushed)
    assert main(["push", "run", "--repo-id", "kim/x"]) == 0
    expected = "pushed to https://hub/kim/x: README.md, run.json" if is_new else "nothing has changed since the last"
    assert expected in capsys.readouterr().out


def test_a_push_is_private_and_needs_a_name(capsys: Capture) -> None:
    options = build_parser().parse_args(["push", "run", "--repo-id", "kim/x"])
    assert (options.public, options.force, options.revision) == (False, False, None)
    with pytest.raises(SystemExit, match="2"):
        main(["push", "run"])
    assert "--repo-id" in capsys.readouterr().err
