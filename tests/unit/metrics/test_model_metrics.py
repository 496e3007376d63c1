"""One model's part of metrics.json: written, read back, and refused when damaged."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from qdsft.errors import UserError
from qdsft.metrics.model_metrics import Decoding, GroupMetrics, ModelMetrics, PairedDifference, parse_model_metrics

METRICS = ModelMetrics(
    samples=3,
    means={"exact_match": 0.5, "own_metric": 2.0},
    intervals={"exact_match": (0.0, 1.0)},
    differences={"exact_match": PairedDifference(0.25, (-0.5, 1.0))},
    groups={"language": {"en": GroupMetrics(3, {"exact_match": 0.5})}, "source": {}},
    decoding=Decoding(loss=1.5, seconds=2.25, new_tokens=30, new_tokens_per_second=None),
)


def test_the_form_on_disk() -> None:
    assert list(METRICS.to_json().items()) == [
        ("exact_match", 0.5),
        ("own_metric", 2.0),
        ("samples", 3),
        ("intervals", {"exact_match": [0.0, 1.0]}),
        ("differences", {"exact_match": {"mean": 0.25, "interval": [-0.5, 1.0]}}),
        ("groups", {"language": {"en": {"exact_match": 0.5, "samples": 3}}, "source": {}}),
        ("loss", 1.5),
        ("seconds", 2.25),
        ("new_tokens", 30),
        ("new_tokens_per_second", None),
    ]


@pytest.mark.parametrize("metrics", [METRICS, ModelMetrics(0, {})])
def test_it_is_read_back_as_it_was(metrics: ModelMetrics) -> None:
    assert parse_model_metrics(json.loads(json.dumps(metrics.to_json())), "m.json") == metrics


def test_files_of_earlier_versions_lack_parts() -> None:
    found = parse_model_metrics({"samples": 2, "sari": 1, "loss": 0.5}, "m.json")
    assert found == ModelMetrics(2, {"sari": 1}, decoding=Decoding(0.5, 0.0, 0, None))


def test_numbers_that_are_not_finite_are_kept_and_not_shown() -> None:
    found = parse_model_metrics({"samples": 2, "loss": math.nan, "sari": 10**400}, "m.json")
    assert found.get("loss") is None and found.get("sari") is None and found.get("samples") == 2
    assert math.isnan(found.to_json()["loss"])
    assert METRICS.get("seconds") == 2.25 and METRICS.get("nothing") is None
    assert METRICS.group("steps") == {} and METRICS.group("language")["en"].get("samples") == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"samples": None}, "samples is not a whole number"),
        ({"samples": True}, "samples is not a whole number"),
        ({"exact_match": "0.5"}, "exact_match is not a number"),
        ({"exact_match": None}, "exact_match is not a number"),
        ({"intervals": None}, "'None' is not an object"),
        ({"intervals": {"sari": [0]}}, "the interval of sari is not [low, high]"),
        ({"intervals": {"sari": [0, "x"]}}, "the interval of sari is not a number"),
        ({"differences": {"sari": {"mean": 0.5}}}, "the interval of the difference of sari is not [low, high]"),
        ({"differences": {"sari": {"interval": [0, 1]}}}, "the difference of sari is not a number"),
        ({"differences": {"sari": 1}}, "'1' is not an object"),
        ({"groups": [1]}, "'[1]' is not an object"),
        ({"groups": {"steps": {"2": {"sari": 1}}}}, "samples is not a whole number"),
        ({"new_tokens": 1.5}, "new_tokens is not a whole number"),
    ],
)
def test_damage_is_one_line(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_model_metrics({**METRICS.to_json(), **change}, "run/metrics.json: tuned")
    assert str(caught.value) == f"run/metrics.json: tuned: {reason}; evaluate again"


@pytest.mark.parametrize("value", [None, [], 3, "x"])
def test_values_that_are_not_objects_are_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"^m\.json: .* is not an object; evaluate again$"):
        parse_model_metrics(value, "m.json")
