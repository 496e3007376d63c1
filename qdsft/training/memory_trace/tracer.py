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
from trl import SFTConfig

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
    """Trace one model; models that are built and traces that are made are kept."""

    def __init__(
        self, config: PretrainedConfig, machine: Machine, *, sharded: bool = False, full: bool = False
    ) -> None:
        self.config, self.machine, self.sharded, self.full = config, machine, sharded, full
        self._models: dict[str, FakeModel] = {}
        self._traced: dict[tuple[FakeModel, str], Traced] = {}

    @property
    def positions(self) -> int | None:
        """Tokens of the longest row that the model reads, if its config says so."""
        found: int | None = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        return found

    def sizes(self, recipe: Recipe) -> Sizes:
        """Return the sizes of the recipe's model."""
        return self._model(recipe, trainable=True).sizes

    def training(self, recipe: Recipe, rows: int, length: int, way: Way) -> Traced:
        """Return the trace of a step on `rows` rows of `length` tokens, which a recipe that packs makes one row."""
        fake = self._model(recipe, trainable=True)
        with _same_accelerate_state():
            arguments = build_arguments(_without_offloading(recipe), CPU, processes=1, checkpointing=way)
            check_optimizer(recipe, arguments)
            training = self._training(recipe, fake, arguments, rows, length)
        fake.recompute(arguments.activation_checkpointing, arguments.activation_checkpointing_kwargs or {})

        def run(live: LiveStorages) -> None:
            StepTrace(fake, training, live).run()

        return self._once(fake, f"{way} {training}", run, packed=training.batch.packed)

    def evaluation(self, recipe: Recipe, prompt: int) -> Traced:
        """Return the trace of decoding as `qdsft evaluate` does."""
        fake = self._model(recipe, trainable=False)
        rows, new = recipe.evaluation.batch_size, recipe.evaluation.max_new_tokens

        def run(live: LiveStorages) -> None:
            trace_decoding(fake, live, rows=rows, prompt=prompt, new_tokens=new)

        return self._once(fake, f"{rows} {prompt} {new}", run, packed=False)

    def _once(self, fake: FakeModel, step: str, run: Callable[[LiveStorages], None], *, packed: bool) -> Traced:
        """Return the trace of a model's step; `step` is all that it depends on besides the model, as text."""
        if (fake, step) not in self._traced:
            self._traced[fake, step] = self._trace(fake, run, packed=packed)
        return self._traced[fake, step]

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

    def _training(self, recipe: Recipe, fake: FakeModel, arguments: SFTConfig, rows: int, length: int) -> Training:
        masked = recipe.model.attn_implementation in {"auto", "sdpa", "eager"}
        half = self.machine.choose_dtype(recipe.model.dtype)

        def batch(count: int) -> Batch:
            if recipe.shares_rows:
                return Batch(1, count * length, packed=masked, padded=False)
            return Batch(count, length, packed=False, padded=masked and count > 1)

        with _untraceable(recipe):
            optimizer = Trainer.get_optimizer_cls_and_kwargs(arguments, fake.model)
        return Training(
            batch=batch(rows),
            scored=batch(arguments.per_device_eval_batch_size) if arguments.eval_strategy.value != "no" else None,
            optimizer=optimizer,
            autocast=None if half == torch.float32 or self.sharded else half,
            accumulates=arguments.gradient_accumulation_steps > 1,
            cuda=self.machine.device_type == "cuda",
            master=self.sharded and fake.dtype != torch.float32,
            all_logits=bool(arguments.label_smoothing_factor) or is_custom_loss(recipe),
            paged=str(arguments.optim.value).startswith("paged_"),
        )


def _without_offloading(recipe: Recipe) -> Recipe:
    """Return the recipe without the keys that a CPU refuses. A plan lists them as not counted."""
    training = {key: value for key, value in recipe.training.items() if key != "activation_offloading"}
    if kwargs := training.get("activation_checkpointing_kwargs"):
        training["activation_checkpointing_kwargs"] = {key: kwargs[key] for key in kwargs if key != "offload"}
    return recipe.model_copy(update={"training": training})


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
