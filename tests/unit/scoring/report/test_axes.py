"""Scales: values to places, and round ticks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdsft.scoring.report.axes import Scale, round_step, short, value_scale


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 2452, [0, 500, 1000, 1500, 2000]),
        (0.62, 0.99, [0.7, 0.8, 0.9]),
        (-3, 3, [-2, 0, 2]),
    ],
)
def test_linear_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert Scale(low, high, 0, 100).ticks() == pytest.approx(ticks)


def test_logarithmic_ticks_are_powers_or_1_2_5() -> None:
    assert Scale(0.008, 5, 0, 100, log=True).ticks() == pytest.approx([0.01, 0.1, 1])
    assert Scale(0.3, 8, 0, 100, log=True).ticks() == pytest.approx([0.5, 1, 2, 5])
    assert len(Scale(1e-30, 1, 0, 100, log=True).ticks()) <= 8


def test_places_follow_the_scale_and_stay_on_it() -> None:
    scale = Scale(0, 10, 100, 0)
    assert [scale.at(value) for value in (0, 5, 10, 20, -1)] == [100, 50, 0, 0, 100]
    assert Scale(0.01, 100, 0, 100, log=True).at(1) == pytest.approx(50)


@given(st.lists(st.floats(-1e12, 1e12), max_size=9), st.booleans())
def test_every_value_gets_a_place_and_there_are_ticks(values: list[float], log: bool) -> None:
    scale = value_scale(values, 0, 100, log=log)
    assert all(0 <= scale.at(value) <= 100 for value in values)
    assert 1 <= len(scale.ticks()) <= 9


def test_a_logarithmic_scale_only_where_it_helps() -> None:
    assert value_scale([0.01, 4], 0, 1, log=True).log
    assert not value_scale([1, 4], 0, 1, log=True).log
    assert not value_scale([0, 4], 0, 1, log=True).log


def test_round_steps() -> None:
    assert [round_step(span, 5) for span in (1, 0.9, 7, 60)] == pytest.approx([0.2, 0.2, 2, 20])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (1500, "1.5k"),
        (2e6, "2M"),
        (5e-5, "5e-5"),
        (0.004, "0.004"),
        (-2000, "-2k"),
        (1e15, "1e15"),
    ],
)
def test_short_values(value: float, text: str) -> None:
    assert short(value) == text
