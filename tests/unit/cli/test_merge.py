"""`qdsft merge`: what it prints, with the stage replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.certificates import make_agreement, make_certificate

from qdsft.cli.main import main

Capture = pytest.CaptureFixture[str]


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
    monkeypatch.setattr("qdsft.runs.manifest.read_adapter_run", lambda run_dir: None)
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
