"""The bootstrap covers what it claims to cover, and the test of differences is right as often as it claims."""

from __future__ import annotations

import time

import numpy
import pytest

from qdsft.metrics.intervals import bootstrap, sign_flip_p_values


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = numpy.random.default_rng(1)
    samples = {str(n): list(map(float, generator.random(100) < 0.3)) for n in range(400)}
    found = bootstrap(samples)
    covered = sum(low <= 0.3 <= high for low, high in found.values()) / len(found)
    assert 0.90 <= covered <= 0.98


def test_the_interval_agrees_with_the_normal_one() -> None:
    values = list(numpy.random.default_rng(2).normal(5.0, 2.0, 1000))
    low, high = bootstrap({"x": values})["x"]
    mean, error = numpy.mean(values), 1.96 * numpy.std(values) / numpy.sqrt(1000)
    assert low == pytest.approx(mean - error, abs=0.02) and high == pytest.approx(mean + error, abs=0.02)


def test_the_same_seed_gives_the_same_interval_and_another_one_not() -> None:
    columns = {"x": [0.0, 1.0, 1.0, 0.5, 0.25] * 9}
    assert bootstrap(columns) == bootstrap(columns)
    assert bootstrap(columns, seed=1) != bootstrap(columns)


def test_none_is_left_out() -> None:
    columns: dict[str, list[float | None]] = {
        "x": [1.0, None, 1.0, None],
        "none": [None] * 4,
        "y": [0.0, 1.0, 0.0, 1.0],
    }
    found = bootstrap(columns)
    assert found["x"] == (1.0, 1.0) and "none" not in found and found["y"] == (0.0, 1.0)
    assert found["y"] == bootstrap({"y": columns["y"]})["y"]


def test_one_row_is_its_own_interval() -> None:
    assert bootstrap({"x": [0.25]}) == {"x": (0.25, 0.25)}


def test_chunks_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"x": [float(n % 7) for n in range(50)]}
    whole = bootstrap(columns)
    monkeypatch.setattr("qdsft.metrics.intervals._CELLS_AT_ONCE", 500)
    assert bootstrap(columns) == whole


def test_p_by_hand() -> None:
    # Four wins and no loss: of 16 ways to set the signs, two are as far from 0.
    p = sign_flip_p_values({"x": [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]}, resamples=20_000)["x"]
    assert p == pytest.approx(2 / 16, abs=0.01)
    assert sign_flip_p_values({"x": [0.0] * 10})["x"] == 1.0
    assert sign_flip_p_values({"x": [1.0] * 30 + [0.0] * 10})["x"] < 0.001
    assert "x" not in sign_flip_p_values({"x": [None, None]})


def test_equal_systems_are_called_different_one_time_in_twenty() -> None:
    generator = numpy.random.default_rng(3)
    pairs = (generator.random((600, 2, 60)) < 0.5).astype(float)
    differences = {str(n): list(map(float, pair[1] - pair[0])) for n, pair in enumerate(pairs)}
    p_values = numpy.array(list(sign_flip_p_values(differences, resamples=1000).values()))
    assert 0.02 < (p_values < 0.05).mean() < 0.07


def test_ten_thousand_rows_take_seconds() -> None:
    columns = {str(n): [float(row % (n + 2)) for row in range(10_000)] for n in range(15)}
    start = time.process_time()
    bootstrap(columns)
    assert time.process_time() - start < 10
