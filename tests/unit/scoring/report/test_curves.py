"""Sections with curves over a run and distributions over the held-out rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.report_inputs import predictions, write_log
from helpers.svg_checks import drawings, parse, texts

from qdsft.errors import UserError
from qdsft.scoring.report.curves import curves_section, distributions_section, read_log

ROWS = predictions(60)


def test_the_log_is_read_past_damage_and_a_resumed_step_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 8.0}, {"step": 2, "loss": 4.0}, {"step": 3, "loss": 3.0}]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n[1]\n{"step": 4, "lo', encoding="utf-8")
    entries, damaged = read_log(path)
    assert (len(entries), damaged) == (4, 2)
    html = curves_section(entries, damaged)
    assert "training 3 at the end" in html and "Lines of the log that cannot be read: 2." in html
    assert len(re.findall("<use", html)) == 3
    assert read_log(tmp_path / "nothing.jsonl") == ([], 0)
    with pytest.raises(UserError, match="cannot be read"):
        read_log(tmp_path)


def test_curves_show_loss_rate_and_logged_metrics(tmp_path: Path) -> None:
    write_log(tmp_path)
    html = curves_section(*read_log(tmp_path / "log.jsonl"))
    names = re.findall(r"<figcaption><b>(.*?)</b>", html)
    assert names == ["Loss", "Learning rate", "SARI", "Gradient norm"]
    assert {"training", "held out", "nats per token, log scale"} <= set(texts(parse(drawings(html)[0])))


def test_losses_that_are_not_finite_are_counted() -> None:
    html = curves_section([{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 10**400}])
    assert "losses that are not finite numbers: 2." in html
    assert curves_section([{"step": 1, "train_runtime": 2.0}]) == ""


def test_distributions_count_every_row() -> None:
    html = distributions_section(ROWS)
    score, steps, lengths = drawings(html)
    for drawing, name in ((score, "rows"), (steps, "predicted"), (lengths, "predicted")):
        assert sum(int(n) for n in re.findall(rf": (\d+) {name}<", drawing)) == len(ROWS)
