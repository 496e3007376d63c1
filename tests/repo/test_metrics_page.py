"""docs/METRICS.md: its example's numbers are worked out again, and it names every metric."""

from __future__ import annotations

import re

import pytest
from helpers.paths import ROOT

from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps
from qdsft.metrics.catalog import of_kind
from qdsft.metrics.scores import score

PAGE = (ROOT / "docs" / "METRICS.md").read_text(encoding="utf-8")
METRICS = {metric.key: metric for metric in of_kind("score", "loss", "fault")}


def table(first: str) -> list[list[str]]:
    """The cells of the table whose header begins with these cells, without the header."""
    lines = PAGE[PAGE.index(first) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def answers() -> dict[str, PredictedSteps]:
    rows = [[name, question, *filter(None, steps)] for name, question, *steps in table("| | question | step 1")]
    _, question, *gold = rows[0]
    return {
        name.split(":")[0]: PredictedSteps(question, tuple(gold), Decomposition(tuple(steps)), True)
        for name, _, *steps in rows[1:]
    }


@pytest.mark.parametrize("name", ["A", "B", "C", "D"])
def test_the_example_is_right(name: str) -> None:
    found = score(answers()[name])
    for metric, *values in table("| | A | B | C | D |"):
        value = found[metric.strip("`")]
        assert value is not None and values["ABCD".index(name)] == f"{value:.3f}", metric


def test_the_example_is_what_the_page_claims() -> None:
    found = {name: score(prediction) for name, prediction in answers().items()}
    assert found["A"]["step_f1"] == found["A"]["edge_f1"] == 1.0 and found["A"]["exact_match"] == 0.0
    assert found["B"]["edge_f1"] == 2 * 1 / (2 + 2)
    assert found["C"]["edge_f1"] == 2 * 1 / (2 + 2)


def test_every_metric_is_named_with_its_direction() -> None:
    rows = {re.findall(r"`(\w+)`", name)[0]: direction for name, direction, *_ in table("| metric | better |")}
    assert rows.keys() == METRICS.keys()
    for metric, direction in rows.items():
        assert direction == (METRICS[metric].better or ""), metric
    scored = score(next(iter(answers().values())))
    assert scored.keys() <= rows.keys()


def test_the_retrieval_metrics_are_explained() -> None:
    text = PAGE[PAGE.index("## Retrieval") : PAGE.index("## For any language")]
    endings = {"", *re.findall(r"`(_question|_steps|_gold)`", text)}
    first = [re.findall(r"`(\w+)`", name)[0] for name, *_ in table("| metric | better | meaning |")]
    named = {f"{name}{depth}{ending}" for name in first for depth in ("", "_20") for ending in endings}
    assert named == {metric.key for metric in of_kind("retrieval")}
