"""Decode and score held-out rows during training, to show whether the answers improve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from qdsft.console import say
from qdsft.data.examples import Example
from qdsft.data.prediction import PredictedSteps, Prediction
from qdsft.data.task import Task, make_task
from qdsft.errors import UserError, reason
from qdsft.inference.generate import Answer, generate
from qdsft.metrics.catalog import BY_KEY
from qdsft.metrics.scores import Scores, score
from qdsft.metrics.summary import means
from qdsft.model.adapters import base_model
from qdsft.recipe import Recipe
from qdsft.recipe.sections import Evaluation
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.scoring.retrieval import RetrievalScorer
from qdsft.tokenization.chat_template import encode_prompts

if TYPE_CHECKING:
    from qdsft.training.trainer import RecipeTrainer

PREFIX = "eval_"
"""The prefix of the trainer's own metrics, so that metric_for_best_model accepts sari and eval_sari."""


class TrainingEvaluation:
    """Decode the same held-out rows greedily at every evaluation of the trainer.

    Every process decodes its share. No random number is drawn, so the weights do not change.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        stop_ids: Sequence[int],
        settings: Evaluation,
        task: Task,
        retrieval: RetrievalScorer | None = None,
    ) -> None:
        self.examples = examples
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.settings = settings
        self.task = task
        self.retrieval = retrieval
        self._prompts = encode_prompts(tokenizer, [example.messages for example in self.examples])

    def decode_longest(self, trainer: RecipeTrainer) -> None:
        """Decode one batch of the longest prompts, to measure its memory. Raises torch.OutOfMemoryError."""
        longest = sorted(self._prompts, key=len, reverse=True)[: self.settings.batch_size]
        list(self._generate(trainer, longest))

    def __call__(self, trainer: RecipeTrainer) -> dict[str, float]:
        """Return the mean of each metric, named eval_*. If decoding fails or a signal stops it, print the reason and
        return an empty dict.

        A failure with weights that are sharded over processes is raised, because the other processes would wait.
        """
        answers: dict[int, Answer] | None = None
        try:
            answers = self._decode(trainer)
        except _Stopped:
            say("a signal arrived: stopped decoding held-out rows; this step has no metrics of them")
        except (RuntimeError, ValueError, IndexError) as error:
            if _is_sharded(trainer):
                raise
            say(f"decoding held-out rows failed, and training continues without these metrics: {reason(error)}")
        shares = gather_object([answers])
        if any(share is None for share in shares):
            return {}
        by_index = {index: answer for share in shares for index, answer in share.items()}
        rows = [
            self._score(self.task.predict(example, by_index[i].text, by_index[i].stopped))
            for i, example in enumerate(self.examples)
        ]
        return {f"{PREFIX}{name}": mean for name, mean in means(rows).items()}

    def _score(self, prediction: Prediction) -> Scores:
        """Return the scores of a row, without those that no prediction changes."""
        scores = score(prediction)
        if self.retrieval is not None and isinstance(prediction, PredictedSteps):
            found = self.retrieval(prediction)
            scores |= {key: value for key, value in found.items() if not BY_KEY[key].fixed}
        return scores

    def _decode(self, trainer: RecipeTrainer) -> dict[int, Answer]:
        """Return the answers to this process's share by row number."""
        world, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
        # All processes gather sharded weights together, so all need the same number of batches.
        share = [i % len(self.examples) for i in range(rank, math.ceil(len(self.examples) / world) * world, world)]
        answers: dict[int, Answer] = {}
        with _stopped_by_signal(trainer):
            for i, answer in self._generate(trainer, [self._prompts[i] for i in share]):
                answers[share[i]] = answer
                # Processes that share weights can only stop together, and all have decoded as many rows here.
                if _is_sharded(trainer) and len(answers) % self.settings.batch_size == 0:
                    stop = trainer.stop_request
                    if stop is not None and stop.any_process_was_asked(trainer.args):
                        raise _Stopped
        return answers

    def _generate(self, trainer: RecipeTrainer, prompts: Sequence[list[int]]) -> Iterator[tuple[int, Answer]]:
        model = trainer.accelerator.unwrap_model(trainer.model)
        with trainer.accelerator.autocast():
            yield from generate(
                model,
                self.tokenizer,
                prompts,
                self.stop_ids,
                max_new_tokens=self.settings.max_new_tokens,
                batch_size=self.settings.batch_size,
                sharded=_is_sharded(trainer),
            )


class _Stopped(Exception):
    """A signal asked the training to stop."""


@contextmanager
def _stopped_by_signal(trainer: RecipeTrainer) -> Iterator[None]:
    """Raise _Stopped at the next token after a signal, except with weights that processes share."""

    def look(*_: Any) -> None:
        if trainer.stop_request is not None and trainer.stop_request.signal is not None:
            raise _Stopped

    model = trainer.accelerator.unwrap_model(trainer.model)
    if _is_sharded(trainer):
        yield
        return
    # PEFT's generate calls the model inside it.
    hook = base_model(model).register_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()


def _is_sharded(trainer: RecipeTrainer) -> bool:
    return bool(trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)


def training_evaluation(
    recipe: Recipe, folder: Path, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]
) -> TrainingEvaluation | None:
    """Return the evaluation that evaluation.every_steps requests, with the rows in `folder`; None if it is unset."""
    if recipe.evaluation.every_steps is None:
        return None
    examples = read_eval_rows(folder, recipe.evaluation.samples)
    task, retrieval = make_task(recipe), None
    if recipe.evaluation.retrieval is not None:
        task.require_decompositions("evaluation.retrieval", recipe.where("evaluation.retrieval"))
        rows = [example.record.row for example in examples]
        try:
            retrieval = RetrievalScorer(Path(recipe.evaluation.retrieval), rows)
        except UserError as error:
            raise UserError(f"{recipe.where('evaluation.retrieval')}: evaluation.retrieval: {error}") from error
    found = TrainingEvaluation(examples, tokenizer, stop_ids, recipe.evaluation, task, retrieval)
    say(f"decoding {len(found.examples)} held-out rows every {recipe.evaluation.every_steps} steps")
    return found
