"""A metric that no evaluation has is refused before training, not looked up after the first evaluation."""

from __future__ import annotations

import pytest

from qdsft.errors import UserError
from qdsft.metrics.best_metric import check_best_metric
from qdsft.recipe import Recipe, load_recipe

DECODED = "evaluation.every_steps=2"
SEARCHED = "evaluation.retrieval=c.jsonl"
FREE_TEXT = "prompt.completion={{ answer }}"


def recipe_of(metric: str, *overrides: str) -> Recipe:
    given = ("training.eval_strategy=steps", "training.eval_steps=2", f"training.metric_for_best_model={metric}")
    return load_recipe("tiny/full", [*given, *overrides])


@pytest.mark.parametrize(
    ("metric", "overrides", "message"),
    [
        ("foo", (), "foo is no metric of an evaluation; choose one of loss, mean_token_accuracy, entropy"),
        ("eval_los", (), "eval_los is no metric of an evaluation; did you mean loss?"),
        ("accuracy", (DECODED,), "accuracy is no metric of an evaluation"),
        ("sari", (), "sari comes from decoded answers; set evaluation.every_steps"),
        ("eval_step_f1", (), "eval_step_f1 comes from decoded answers"),
        (
            "retrieval_recall",
            (DECODED,),
            "is measured by a search; set evaluation.every_steps and evaluation.retrieval",
        ),
        ("step_f1", (DECODED, FREE_TEXT), "step_f1 is no metric of an evaluation"),
        ("ged", (DECODED,), "ged is no metric of an evaluation"),  # needs an option of qdsft evaluate
        ("samples", (DECODED,), "samples is no metric of an evaluation"),
    ],
)
def test_a_metric_that_no_evaluation_has_is_refused(metric: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_best_metric(recipe_of(metric, *overrides))
    assert str(caught.value).startswith("command line: training.metric_for_best_model: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "overrides"),
    [
        ("loss", ()),
        ("eval_loss", (DECODED,)),
        ("mean_token_accuracy", ()),
        ("sari", (DECODED,)),
        ("eval_copied_question", (DECODED,)),
        ("exact_match", (DECODED, FREE_TEXT)),
        ("retrieval_all_found", (DECODED, SEARCHED)),
    ],
)
def test_the_metrics_of_an_evaluation_are_accepted(metric: str, overrides: tuple[str, ...]) -> None:
    check_best_metric(recipe_of(metric, *overrides))


def test_a_recipe_without_such_a_metric_is_accepted() -> None:
    check_best_metric(load_recipe("tiny/full"))
