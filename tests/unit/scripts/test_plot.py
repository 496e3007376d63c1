"""The picture of a sweep: where points stand, and which line they are on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qdsft.figures import save_figure
from sweeps import plot
from sweeps.plot import plot_sweep


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of the pictures that were saved."""
    found: list[Any] = []
    save = save_figure

    def keep(figure: Any, path: Path, kind: str) -> None:
        found.extend(figure.axes)
        save(figure, path, kind)

    monkeypatch.setattr(plot, "save_figure", keep)
    return found


def test_numbers_stand_at_their_size_and_each_other_value_is_a_line(drawn: list[Any], tmp_path: Path) -> None:
    axes = {"training.learning_rate": ("4e-4", "1e-4", "2e-4"), "lora.r": ("8", "16")}
    points = [
        ({"training.learning_rate": rate, "lora.r": rank}, float(rank) + number)
        for number, rate in enumerate(axes["training.learning_rate"])
        for rank in axes["lora.r"]
        if (rate, rank) != ("2e-4", "16")  # that run failed
    ]
    plot_sweep(axes, points, "loss", tmp_path / "p.png")
    lines = {line.get_label(): line.get_xydata().tolist() for line in drawn[0].lines}
    assert lines == {"r 8": [[1e-4, 9], [2e-4, 10], [4e-4, 8]], "r 16": [[1e-4, 17], [4e-4, 16]]}
    assert drawn[0].get_xscale() == "log" and drawn[0].get_xlabel() == "training.learning_rate"
    assert {text.get_text() for text in drawn[0].get_xticklabels()} == {"1e-4", "2e-4", "4e-4"}
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("values", [("[q_proj,v_proj]", "[q_proj]"), ("0", "nan"), ("null", "1")])
def test_other_values_stand_side_by_side(drawn: list[Any], tmp_path: Path, values: tuple[str, ...]) -> None:
    plot_sweep({"a.b": values}, [({"a.b": value}, 1.0) for value in values], "loss", tmp_path / "p.png")
    assert drawn[0].lines[0].get_xydata().tolist() == [[0, 1], [1, 1]]
    assert [text.get_text() for text in drawn[0].get_xticklabels()] == list(values)
    assert drawn[0].get_xscale() == "linear" and drawn[0].get_legend() is None
