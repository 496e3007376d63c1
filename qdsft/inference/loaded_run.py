"""Load a finished run for inference. Evaluation, decomposition, merging and serving all load runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from qdsft.data.prompt import Message
from qdsft.data.task import Task, make_task
from qdsft.errors import UserError
from qdsft.inference.constrained import Grammar
from qdsft.inference.draw import Sampling
from qdsft.inference.generate import Answer, generate
from qdsft.inference.remote_code import check_code, pinned
from qdsft.inference.same_as_trained import check_base, check_golden_prompts, check_vocabulary
from qdsft.model.checked_weights import ADAPTER_REMEDY, check_adapter
from qdsft.model.device import Machine, find_machine
from qdsft.model.device_errors import FREE_DEVICE, device_errors
from qdsft.model.file_check import check_adapter_files, check_model_files
from qdsft.model.foreign_files import foreign_errors
from qdsft.model.loading import CODE_REMEDY, load_config, load_model
from qdsft.recipe import Recipe
from qdsft.runs.manifest import Manifest, read_finished
from qdsft.tokenization.chat_template import beyond_vocabulary, encode_prompts

FIRST_ADAPTER = "default"
"""Name of the adapter that a model is loaded with."""


@dataclass(frozen=True)
class RunPrompts:
    """Encode prompts exactly as the run was trained on them; needs no weights."""

    run_dir: Path
    manifest: Manifest
    recipe: Recipe
    task: Task
    tokenizer: PreTrainedTokenizerBase
    positions: int | None
    """The model's max_position_embeddings; None if it has no such limit."""
    vocabulary: int
    """Number of the model's embeddings."""

    @property
    def max_new_tokens(self) -> int:
        """Return the maximum length of an answer in tokens."""
        return self.recipe.evaluation.max_new_tokens

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Return prompt token ids. Raises UserError if messages cannot be encoded or leave no room for an answer."""
        prompts = encode_prompts(self.tokenizer, conversations)
        if (largest := max((token for ids in prompts for token in ids), default=0)) >= self.vocabulary:
            raise UserError(f"{self.run_dir}: {beyond_vocabulary(self.tokenizer, largest, self.vocabulary)}")
        longest = max(map(len, prompts), default=0) + self.max_new_tokens
        if self.positions and longest > self.positions:
            raise UserError(
                f"the prompt and evaluation.max_new_tokens make {longest} tokens, and the model has {self.positions} "
                "positions; shorten the question"
            )
        return prompts

    @cached_property
    def grammar(self) -> Grammar:
        """Return the grammar of this run's answers.

        Raises UserError as `Grammar` does, for another task than decomposition, and if max_new_tokens is too small for
        one step.
        """
        self.task.require_decompositions("--constrained", self.run_dir)
        stop_ids = self.manifest.stop_token_ids
        grammar = Grammar(self.tokenizer, stop_ids, self.manifest.golden_prompts[0].messages)
        if self.max_new_tokens < grammar.shortest:
            raise UserError(
                f"{self.run_dir}: evaluation.max_new_tokens {self.max_new_tokens} is too small for --constrained, "
                f"which requires {grammar.shortest}; decode without --constrained"
            )
        return grammar


@dataclass(frozen=True)
class LoadedRun(RunPrompts):
    """A run with its trained model, ready to answer."""

    machine: Machine
    model: Any

    def answer(
        self, conversations: Sequence[Sequence[Message]], *, batch_size: int = 1, constrained: bool = False
    ) -> list[Answer]:
        """Return greedy answers to chat messages, in order; raises UserError as `stream` does."""
        answers = dict(self.stream(conversations, batch_size=batch_size, constrained=constrained))
        return [answers[i] for i in range(len(conversations))]

    def watch(
        self, messages: Sequence[Message], on_text: Callable[[str], None], *, constrained: bool = False
    ) -> Answer:
        """Return the greedy answer to one conversation; `on_text` is called with the text so far after each token.

        An exception of `on_text` ends the decoding. Raises UserError as `stream` does.
        """
        ((_, answer),) = self.stream_ids(self.encode([messages]), constrained=constrained, watch=on_text)
        return answer

    def stream(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        batch_size: int = 1,
        progress: bool = False,
        constrained: bool = False,
    ) -> Iterator[tuple[int, Answer]]:
        """Yield (index into `conversations`, greedy answer) batch by batch.

        Raises UserError for messages that cannot be encoded and, if `constrained`, as `grammar` does.
        """
        return self.stream_ids(
            self.encode(conversations), batch_size=batch_size, progress=progress, constrained=constrained
        )

    def stream_ids(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        batch_size: int = 1,
        progress: bool = False,
        constrained: bool = False,
        watch: Callable[[str], None] | None = None,
        sampling: Sampling | None = None,
        max_new_tokens: int | None = None,
    ) -> Iterator[tuple[int, Answer]]:
        """Decode token ids from `encode` as `stream` does; `watch` and `sampling` are those of `generate`."""
        answers = generate(
            self.model,
            self.tokenizer,
            prompts,
            self.manifest.stop_token_ids,
            max_new_tokens=max_new_tokens or self.max_new_tokens,
            batch_size=batch_size,
            progress=progress,
            grammar=self.grammar if constrained else None,
            watch=watch,
            sampling=sampling,
        )
        return _with_remedy(answers, self.run_dir)

    @contextmanager
    def untrained(self) -> Iterator[LoadedRun]:
        """Provide the base model before training, with the same chat template and prompts."""
        if isinstance(self.model, PeftModel):
            with self.model.disable_adapter():
                yield self
        else:
            yield replace(self, model=load_model(self.recipe, self.machine, trainable=False).to(self.model.device))


def _with_remedy(answers: Iterator[tuple[int, Answer]], run_dir: Path) -> Iterator[tuple[int, Answer]]:
    remedy = "ask fewer questions at a time (--batch-size), or end other programs that use the device"
    with device_errors(f"decoding answers of {run_dir}", remedy):
        yield from answers


def load_prompts(run_dir: Path, manifest: Manifest | None = None, *, trust_remote_code: bool = False) -> RunPrompts:
    """Load the tokenizer, chat template and prompts of a finished run; `manifest` is its run.json, if already read.

    `trust_remote_code` is the caller's consent to run the code in the model's folder. The value in run.json is only
    quoted in an error: whoever wrote the folder wrote that too.

    Raises UserError if the run is unfinished or damaged, if its base model is not the one it was trained on, or if its
    chat template or tokenizer no longer yields the token ids it was trained on.
    """
    manifest = manifest or read_finished(run_dir)
    recipe = manifest.load_recipe(trust_remote_code=trust_remote_code)
    if trust_remote_code:
        recipe = pinned(recipe, manifest)
        check_code(run_dir, _with_model_to_load(recipe, run_dir, manifest), manifest)
    try:
        config = load_config(_with_model_to_load(recipe, run_dir, manifest))
        check_base(run_dir, recipe, manifest, config)
        tokenizer = _load_tokenizer(manifest.weights_folder(run_dir), recipe)
    except UserError as error:
        if CODE_REMEDY in str(error) and manifest.recipe["model"].get("trust_remote_code"):
            raise UserError(f"{error} (its run.json says that it was trained so)") from error
        raise
    check_vocabulary(run_dir, manifest, config)
    check_golden_prompts(run_dir, manifest, tokenizer)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return RunPrompts(
        run_dir, manifest, recipe, make_task(recipe), tokenizer, positions, config.get_text_config().vocab_size
    )


def load_run(run_dir: Path, manifest: Manifest | None = None, *, trust_remote_code: bool = False) -> LoadedRun:
    """Load a finished run; raises UserError as `load_prompts` and `load_weights` do."""
    return load_weights(load_prompts(run_dir, manifest, trust_remote_code=trust_remote_code))


def check_weight_files(prompts: RunPrompts) -> None:
    """Raise UserError unless a run's weight files are whole, finite and fit the config.

    For a run whose weights another program loads; `load_weights` checks what it loads itself.
    """
    config = load_config(_with_model_to_load(prompts.recipe, prompts.run_dir, prompts.manifest))
    check = check_adapter_files if prompts.manifest.artifact == "adapter" else check_model_files
    folder = prompts.manifest.weights_folder(prompts.run_dir)
    check(folder, config, trust_remote_code=prompts.recipe.model.trust_remote_code)


def load_weights(prompts: RunPrompts) -> LoadedRun:
    """Load the model of a run; raises UserError if the weights cannot be loaded."""
    recipe, folder = prompts.recipe, prompts.manifest.weights_folder(prompts.run_dir)
    machine = find_machine()
    try:
        to_load = _with_model_to_load(recipe, prompts.run_dir, prompts.manifest)
        model: Any = load_model(to_load, machine, trainable=False)
    except UserError as error:
        if prompts.manifest.artifact == "adapter":
            raise
        raise UserError(
            f"{folder}: the model saved with the run cannot be loaded; put its files back or train again ({error})"
        ) from error
    if prompts.manifest.artifact == "adapter":
        model = attach_adapter(model, folder, FIRST_ADAPTER)
    if not recipe.quantization:
        with device_errors(f"moving the model of {prompts.run_dir} to the device", FREE_DEVICE):
            model = model.to(machine.device_type)
    return with_model(prompts, machine, model)


def with_model(prompts: RunPrompts, machine: Machine, model: Any) -> LoadedRun:
    """Return the run with a model that is already loaded."""
    shared = {field.name: getattr(prompts, field.name) for field in fields(RunPrompts)}
    return LoadedRun(**shared, machine=machine, model=model.eval())


def _with_model_to_load(recipe: Recipe, run_dir: Path, manifest: Manifest) -> Recipe:
    """Return the recipe with the model to load: the base model of an adapter, or the run's own weights."""
    if manifest.artifact == "adapter":
        return recipe
    section = recipe.model.model_copy(update={"name_or_path": str(manifest.weights_folder(run_dir)), "revision": None})
    return recipe.model_copy(update={"model": section})


def _load_tokenizer(folder: Path, recipe: Recipe) -> PreTrainedTokenizerBase:
    def remedy(error: Exception) -> str:
        return CODE_REMEDY if "trust_remote_code" in str(error) else "put its files back or train again"

    with foreign_errors("tokenizer", folder, remedy=remedy):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=recipe.model.trust_remote_code)


def attach_adapter(model: Any, folder: Path, name: str) -> Any:
    """Add the adapter in `folder` under `name` to a model.

    Raises UserError if it cannot be loaded, and as `check_adapter` does; a model that had adapters keeps only those.
    """
    try:
        with (
            foreign_errors("adapter", folder, remedy=lambda _: ADAPTER_REMEDY),
            device_errors(f"loading the adapter in {folder}", FREE_DEVICE),
        ):
            adapted = model if isinstance(model, PeftModel) else PeftModel.from_pretrained(model, str(folder), name)
            # from_pretrained does not return which weights are missing; load_adapter reads the same weights again.
            loaded = adapted.load_adapter(str(folder), adapter_name=name)
        check_adapter(folder, adapted, name, loaded)
        return adapted
    except UserError:
        if isinstance(model, PeftModel) and name in model.peft_config:
            model.delete_adapter(name)
        raise
