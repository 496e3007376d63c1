"""A finished run, loaded for answering: the one way back in for evaluation, decomposition and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from qdsft.errors import UserError
from qdsft.examples import make_writer
from qdsft.generate import Answer, generate
from qdsft.model import Machine, base_model_facts, find_machine, load_config, load_model
from qdsft.prompt import Message, PromptWriter
from qdsft.recipe import Recipe
from qdsft.run import Manifest, read_finished, text_sha256
from qdsft.tokens import encode_prompts


@dataclass(frozen=True)
class LoadedRun:
    """The trained model with the tokenizer, template and wording that it was trained with."""

    run_dir: Path
    manifest: Manifest
    recipe: Recipe
    machine: Machine
    writer: PromptWriter
    tokenizer: PreTrainedTokenizerBase
    model: Any

    def answer(self, conversations: Sequence[Sequence[Message]], *, batch_size: int = 1) -> list[Answer]:
        """Greedy answers to chat messages, in order; raises UserError for messages that cannot be encoded."""
        answers = dict(self.stream(conversations, batch_size=batch_size))
        return [answers[i] for i in range(len(conversations))]

    def stream(
        self, conversations: Sequence[Sequence[Message]], *, batch_size: int = 1, progress: bool = False
    ) -> Iterator[tuple[int, Answer]]:
        """(index into `conversations`, greedy answer) as each batch is done; raises UserError as `answer` does."""
        prompts = encode_prompts(self.tokenizer, conversations)
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, prompts), default=0) + self.recipe.evaluation.max_new_tokens
        if positions and longest > positions:
            raise UserError(
                f"the prompt and evaluation.max_new_tokens make {longest} tokens, and the model has {positions} "
                "positions; shorten the question"
            )
        return generate(
            self.model,
            self.tokenizer,
            prompts,
            self.manifest.stop_token_ids,
            max_new_tokens=self.recipe.evaluation.max_new_tokens,
            batch_size=batch_size,
            progress=progress,
        )

    @contextmanager
    def untrained(self) -> Iterator[LoadedRun]:
        """The base model before training, with the same template and prompts."""
        if isinstance(self.model, PeftModel):
            with self.model.disable_adapter():
                yield self
        else:
            yield replace(self, model=load_model(self.recipe, self.machine, trainable=False).to(self.model.device))


def load_run(run_dir: Path) -> LoadedRun:
    """Load a finished run.

    Raises UserError if the run is unfinished or damaged, if its base model is not the one it was trained
    on, or if the chat template or tokenizer saved with it no longer yields the token ids it was trained on.
    """
    manifest = read_finished(run_dir)
    recipe = manifest.load_recipe()
    folder = run_dir / manifest.artifact
    tokenizer = _load_tokenizer(folder, recipe)
    check_golden_prompts(run_dir, manifest, tokenizer)
    machine = find_machine()
    if manifest.artifact == "adapter":
        found = base_model_facts(recipe, load_config(recipe))
        if found["config_sha256"] != manifest.base_model["config_sha256"]:
            raise UserError(
                f"{run_dir}: the base model at {recipe.model.name_or_path} is not the one that the adapter was trained "
                "on (its config.json differs); put the original back"
            )
        model: Any = _attach_adapter(load_model(recipe, machine, trainable=False), folder)
    else:
        section = recipe.model.model_copy(update={"name_or_path": str(folder), "revision": None})
        model = load_model(recipe.model_copy(update={"model": section}), machine, trainable=False)
    if not recipe.quantization:
        model = model.to(machine.device)
    return LoadedRun(run_dir, manifest, recipe, machine, make_writer(recipe), tokenizer, model.eval())


def check_golden_prompts(run_dir: Path, manifest: Manifest, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError unless template and tokenizer yield the ids that the run was trained on."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or text_sha256(template) != manifest.template_sha256:
        raise UserError(
            f"{run_dir / manifest.artifact / 'chat_template.jinja'}: not the template that this run was trained with; "
            "put the original back or train again"
        )
    for golden in manifest.golden_prompts:
        if encode_prompts(tokenizer, [golden.messages])[0] != golden.ids:
            raise UserError(
                f"{run_dir / manifest.artifact}: the tokenizer no longer yields the token ids that this run was "
                "trained on; put its files back, or install the versions listed in run.json"
            )


def _load_tokenizer(folder: Path, recipe: Recipe) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=recipe.model.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: the tokenizer saved with the run cannot be read; train again") from error


def _attach_adapter(model: Any, folder: Path) -> Any:
    try:
        return PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{folder}: the adapter cannot be loaded: {first[:200]}") from error
