"""`qdsft merge` and `qdsft push`: what they print, with the stages replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.certificates import make_agreement, make_certificate

from qdsft.cli.main import build_parser, main
from qdsft.deploy.push import Pushed

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands take any folder for a finished run."""
    for name in ("read_adapter_run", "read_finished"):
        monkeypatch.setattr(f"qdsft.runs.manifest.{name}", lambda run_dir: None)


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(
    ("passed", "failed", "verdict"),
    [
        (True, [], "agrees with the adapter"),
        (False, ["mean KL 1 is more than 1e-06"], "NOT PASSED: mean KL 1 is more than 1e-06"),
        (None, [], "not measured"),
    ],
)
def test_merge_prints_the_figures_and_the_verdict(
    passed: bool | None, failed: list[str], verdict: str, tmp_path: Path, capsys: Capture, monkeypatch: Any
) -> None:
    given: dict[str, Any] = {}
    found = make_certificate(passed=passed, failed=failed, candidates={"original": make_agreement(0.5, sari=-0.25)})
    monkeypatch.setattr("qdsft.deploy.merge.merge", lambda *_, **options: given.update(options) or found)
    output = tmp_path / "merged"
    assert main(["merge", "run", "--output", str(output), "--no-check", "--samples", "7"]) == 0
    assert given["check"] is False and given["samples"] == 7 and given["base"] == "auto"
    out, err = capsys.readouterr()
    figures, last = out.splitlines()
    assert (
        figures == "original     mean KL 0.5 nats, largest logit difference 0.1, 100% of 4 answers equal; sari -0.250"
    )
    assert last == f"{output}: original base, float32, {verdict}"
    assert ("next: qdsft push" in err) is (passed is True)


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("is_new", [True, False])
def test_push_prints_where_it_went(is_new: bool, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
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
