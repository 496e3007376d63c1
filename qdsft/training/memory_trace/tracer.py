"""Trace a recipe's training and evaluation, from short stacks of its layers or from all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from huggingface_hub.errors import StrictDataclassError
from transformers import PretrainedConfig, Trainer

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.model.device import Machine
from qdsft.planning.allocator import Allocator
from qdsft.planning.peak import Sizes, Traced, extrapolate
from qdsft.planning.way import Way
from qdsft.recipe import Recipe
from qdsft.recipe.custom_loss import is_custom_loss
from qdsft.training.build import build_arguments
from qdsft.training.memory_trace.cuda_semantics import fake_tensors
from qdsft.training.memory_trace.decoding import trace_decoding
from qdsft.training.memory_trace.fake_model import FakeModel
from qdsft.training.memory_trace.live_storages import LiveStorages
from qdsft.training.memory_trace.training_step import Batch, StepTrace, Training
from qdsft.training.optimizer_check import check_optimizer

DEPTH = 2
"""Layers of each kind in a short stack."""
CPU = Machine("cpu", "a fake CPU", torch.float32)


CANNOT = (
    *(RuntimeError, TypeError, ValueError, AttributeError, LookupError, ImportError, AssertionError),
    *(ArithmeticError, StrictDataclassError),
)
"""What libraries raise for a config that makes no model, and for code that needs the values of tensors."""


class TraceError(UserError):
    """A model whose step cannot be traced, such as one with code that reads the values of tensors."""


class StepTracer:
    """Trace one model; models that are built are kept for the next trace."""

    def __init__(
        self, config: PretrainedConfig, machine: Machine, *, sharded: bool = False, full: bool = False
    ) -> None:
        self.config, self.machine, self.sharded, self.full = config, machine, sharded, full
        self._models: dict[str, FakeModel] = {}

    @property
    def positions(self) -> int | None:
        """Tokens of the longest row that the model reads, if its config says so."""
        found: int | None = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        return found

    def sizes(self, recipe: Recipe) -> Sizes:
        """Return the sizes of the recipe's model."""
        return self._model(recipe, trainable=True).sizes

    def training(self, recipe: Recipe, rows: int, length: int, way: Way) -> Traced:
        """Return the trace of a step on `rows` rows of `length` tokens."""
        fake = self._model(recipe, trainable=True)
        fake.recompute(way.checkpointing, way.kwargs(recipe))
        training = self._training(recipe, fake, rows, length)
        packed = training.batch.packed
        return self._trace(fake, lambda live: StepTrace(fake, training, live).run(), packed=packed)

    def evaluation(self, recipe: Recipe, prompt: int) -> Traced:
        """Return the trace of decoding as `qdsft evaluate` does."""
        fake = self._model(recipe, trainable=False)
        rows, new = recipe.evaluation.batch_size, recipe.evaluation.max_new_tokens

        def run(live: LiveStorages) -> None:
            trace_decoding(fake, live, rows=rows, prompt=prompt, new_tokens=new)

        return self._trace(fake, run, packed=False)

    def _trace(self, fake: FakeModel, run: Callable[[LiveStorages], None], *, packed: bool) -> Traced:
        """Trace all layers, or as many of each kind that the others follow from."""

        def one(numbers: list[int]) -> Traced:
            cuda = self.machine.device_type == "cuda"
            with fake_tensors(fake.mode, cuda=cuda, packed=packed), fake.stack(numbers):
                live = LiveStorages()
                with _untraceable(fake.recipe), live:
                    run(live)
            return Traced(live.phases, Allocator().replay(live.events))

        kinds = fake.kinds()
        # Kinds alternate, so that each is once among the last layers: their backward pass comes first.
        short = [kind[place] for place in range(DEPTH) for kind in kinds if place < len(kind)]
        longer = [(kind[DEPTH], len(kind) - DEPTH) for kind in kinds if len(kind) > DEPTH]
        if self.full or len(longer) * (len(short) + 1) + len(short) >= len(fake.layers):
            return one(list(range(len(fake.layers))))
        return extrapolate(one(short), [(one([*short, extra]), missing) for extra, missing in longer])

    def _model(self, recipe: Recipe, *, trainable: bool) -> FakeModel:
        parts = [recipe.model.model_dump(mode="json"), recipe.lora, recipe.quantization, trainable]
        key = json.dumps(parts, sort_keys=True, default=str)
        if not self._models:
            say(f"tracing a step of {recipe.model.name_or_path} on tensors without contents")
        if key not in self._models:
            config = type(self.config).from_dict(self.config.to_dict())
            with _untraceable(recipe):
                self._models[key] = FakeModel(
                    recipe, config, self.machine, trainable=trainable, sharded=self.sharded and trainable
                )
        return self._models[key]

    def _training(self, recipe: Recipe, fake: FakeModel, rows: int, length: int) -> Training:
        value = recipe.training_value
        packed = recipe.shares_rows
        masked = recipe.model.attn_implementation in {"auto", "sdpa", "eager"}
        half = self.machine.choose_dtype(recipe.model.dtype)
        evaluates = value("eval_strategy") != "no" or recipe.evaluation.every_steps is not None

        def batch(count: int) -> Batch:
            if packed:
                return Batch(1, count * length, packed=masked, padded=False)
            return Batch(count, length, packed=False, padded=masked and count > 1)

        with _same_accelerate_state():
            arguments = build_arguments(recipe, CPU, processes=1)
            check_optimizer(recipe, arguments)
            with _untraceable(recipe):
                optimizer = Trainer.get_optimizer_cls_and_kwargs(arguments, fake.model)
        return Training(
            batch=batch(rows),
            scored=batch(value("per_device_eval_batch_size")) if evaluates else None,
            optimizer=optimizer,
            autocast=None if half == torch.float32 or self.sharded else half,
            accumulates=recipe.accumulation_steps(1) > 1,
            cuda=self.machine.device_type == "cuda",
            master=self.sharded and fake.dtype != torch.float32,
            all_logits=bool(value("label_smoothing_factor")) or is_custom_loss(recipe),
            paged=str(value("optim")).startswith("paged_"),
        )


@contextmanager
def _untraceable(recipe: Recipe) -> Iterator[None]:
    """Raise TraceError for what code does that needs the values of tensors."""
    try:
        yield
    except UserError:
        raise
    except CANNOT as error:
        raise TraceError(
            f"a step of {recipe.model.name_or_path} cannot be traced without weights: "
            f"{' '.join(str(error).split())[:200]}; measure it with qdsft preflight"
        ) from error


@contextmanager
def _same_accelerate_state() -> Iterator[None]:
    """Restore accelerate's state afterwards: transformers resets it for the arguments of a trace."""
    states = (PartialState._shared_state, AcceleratorState._shared_state)
    kept = [dict(state) for state in states]
    try:
        yield
    finally:
        for state, before in zip(states, kept, strict=True):
            state.clear()
            state.update(before)
