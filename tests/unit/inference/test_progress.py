"""Decoding shows that it is alive, in a log as well."""

from __future__ import annotations

import pytest
import torch

from qdsft.inference import progress
from qdsft.inference.progress import Progress, ShowTokens


def test_a_log_gets_lines_within_a_batch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with Progress(5, shown=True) as shown:
        watcher = ShowTokens(shown, 3)
        assert not watcher(torch.zeros(2, 7), None).any()
        shown.add_rows(2)
        watcher(torch.zeros(2, 4), None)
    assert capsys.readouterr().err == (
        "decoding: 0 of 5 rows, 4 tokens of the next ones\ndecoding: 2 of 5 rows, 1 tokens of the next ones\n"
    )


def test_lines_are_rare_and_other_processes_are_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for shown in (True, False):
        monkeypatch.setattr(progress, "LINE_EVERY", 30.0 if shown else 0.0)
        with Progress(5, shown=shown) as bar:
            for tokens in range(100):
                bar.add_token(tokens)
            bar.add_rows(5)
    assert capsys.readouterr().err == ""
