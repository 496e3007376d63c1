"""Check the metric that training.metric_for_best_model names."""

from __future__ import annotations

from difflib import get_close_matches

from qdsft.data.task import task_type
from qdsft.errors import UserError
from qdsft.metrics.catalog import METRICS
from qdsft.recipe import Recipe

KEY = "training.metric_for_best_model"
PREFIX = "eval_"
OF_THE_LOSS = ("loss", "mean_token_accuracy", "entropy")
"""What TRL computes from the held-out rows without decoding them."""


def check_best_metric(recipe: Recipe) -> None:
    """Raise UserError for a metric that the evaluations of this recipe do not have.

    The trainer looks the metric up after the first evaluation, which may be hours after the start.
    """
    wanted = recipe.training_value("metric_for_best_model")
    if wanted is None:
        return
    name = str(wanted).removeprefix(PREFIX)
    decoded = decoded_metrics(recipe, retrieval=recipe.evaluation.retrieval is not None)
    available = [*OF_THE_LOSS, *(decoded if recipe.evaluation.every_steps else ())]
    if name in available:
        return
    if name in decoded:
        reason = "comes from decoded answers; set evaluation.every_steps"
    elif name in decoded_metrics(recipe, retrieval=True):
        reason = "is measured by a search; set evaluation.every_steps and evaluation.retrieval"
    elif near := get_close_matches(name, available, n=1):
        reason = f"is no metric of an evaluation; did you mean {near[0]}?"
    else:
        reason = f"is no metric of an evaluation; choose one of {', '.join(available)}"
    raise UserError(f"{recipe.where(KEY)}: {KEY}: {wanted} {reason}")


def decoded_metrics(recipe: Recipe, *, retrieval: bool) -> list[str]:
    """Return the metrics that evaluation.every_steps computes for the task of this recipe."""
    task = task_type(recipe.prompt)
    return [
        metric.key
        for metric in METRICS
        if task.name in metric.tasks or (retrieval and metric.kind == "retrieval" and not metric.fixed)
    ]
