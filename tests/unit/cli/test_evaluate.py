"""The arguments of `qdsft evaluate`, and its table."""

from __future__ import annotations

import pytest

from qdsft.cli.evaluate import _print_table
from qdsft.cli.main import main
from qdsft.metrics.model_metrics import ModelMetrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate; give a run directory, or --predictions and --gold"),
        (["run", "--output", "x"], "--output works with --predictions only"),
        (["--predictions", "p"], "--gold is missing"),
        (["--gold", "g"], "--predictions is missing"),
        (["run", "--predictions", "p", "--gold", "g"], "RUN_DIR and --predictions contradict each other"),
        (["--baseline", "--predictions", "p", "--gold", "g"], "--baseline and --predictions contradict"),
        (["--samples", "3", "--predictions", "p", "--gold", "g"], "--samples works with a run directory only"),
        (["none"], "none: no run directory (run.json is missing)"),
    ],
)
def test_arguments_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_a_number_that_is_not_positive_is_wrong_usage(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "run", "--batch-size", value])
    assert stopped.value.code == 2 and "--batch-size" in capsys.readouterr().err


def test_the_table_has_one_column_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    first = ModelMetrics(3, {"exact_match": 0.5}, {"exact_match": (0.25, 0.75)})
    _print_table({"tuned": first, "baseline": ModelMetrics(3, {"exact_match": 0.1})}, names={"tuned": "score"})
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["metric", "score", "95", "%", "interval", "baseline"]
    assert ["exact", "match", "0.500", "0.250", "to", "0.750", "0.100"] in [row.split() for row in rows]
