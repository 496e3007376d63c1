"""`qdsft recipe --new`: read a model's config and tokenizer, and write a folder of recipes for it."""

from __future__ import annotations

import datetime
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.data.task import make_task
from qdsft.errors import UserError
from qdsft.files import exclusive, new_directory
from qdsft.model.adapters import decoder_targets
from qdsft.model.loading import load_config, load_own_tokenizer, stop_token_ids
from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.new_text import METHODS, NewModel, recipe_text
from qdsft.recipe.schema import SCHEMA, shipped_recipes
from qdsft.strict_json import to_json
from qdsft.tokenization.chat_template import render_texts
from qdsft.tokenization.read_back import ReadBack
from qdsft.tokenization.rows import RowMaker, last_token

TEMPLATE = "chat_template.jinja"
SOURCE = "qdsft_source"
"""Key of the folder's config.json that says where and when it was read."""
NO_THINKING = "{%- set enable_thinking = false -%}\n"
ROWS = (
    {
        "question": "What currency is used in the country where the Taj Mahal stands?",
        "sub_questions": ["Which country is the Taj Mahal in?", "What is the official currency of #1?"],
    },
    {"question": "애플은 누가 언제 세웠나요?", "sub_questions": ["애플은 누가 세웠나요?", "애플은 언제 세워졌나요?"]},
)
"""Rows that a chat template must render, and that its tokens must give back."""
ALLOWED = ("model.revision=", "model.trust_remote_code=")
REMEDY = "choose another folder with --output"


@dataclass(frozen=True)
class Template:
    """The chat template of the new recipes."""

    text: str | None
    """The Jinja file to write; None for the tokenizer's own template."""
    reason: str
    row: str
    """One row as it renders."""
    stop: str
    """The token that ends an answer."""


def new_recipe(name: str, output: Path | None = None, overrides: Sequence[str] = ()) -> Iterator[str]:
    """Write a folder of recipes for a model and yield lines that say what was chosen and what to do next.

    `name` is a local folder or a Hub id; `output` is recipes/<model> if it is None. Raises UserError if the folder
    exists, if config or tokenizer cannot be read, and if no chat template works.
    """
    if wrong := [one for one in overrides if not one.startswith(ALLOWED)]:
        raise UserError(f"{wrong[0]}: --new takes model.revision and model.trust_remote_code alone; edit the recipe")
    folder = output or Path("recipes") / _folder_name(name)
    _refuse_existing(folder)
    # A length that no model is too short for; the new recipes get their own.
    values = {"data": {"train": "rows.jsonl"}, "training": {"max_length": 1}}
    recipe = load_recipe(values, [f"model.name_or_path={name}", *overrides])
    config, tokenizer = load_config(recipe), load_own_tokenizer(recipe)
    template = choose_template(recipe, tokenizer, stop_token_ids(recipe, tokenizer, config), folder.name)
    targets = decoder_targets(recipe, config)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    model = NewModel(
        name,
        folder.as_posix(),
        targets,
        positions,
        TEMPLATE if template.text is not None else None,
        recipe.model.revision,
        recipe.model.trust_remote_code,
    )
    _write(folder, model, template, _config_json(recipe))
    path = shlex.quote((folder / "qlora_8gb.yaml").as_posix())
    yield f"{folder.as_posix()}: {', '.join(f'{method}.yaml' for method in METHODS)}, README.md, config.json"
    yield f"model: {_describe(config, positions)}"
    yield f"LoRA: {', '.join(targets)}"
    yield f"chat template: {template.reason}"
    yield f"stop token: {template.stop}"
    yield "next:"
    yield f"  qdsft check {path}"
    yield f"  qdsft plan {path} --gpu-memory 8"
    yield f"  qdsft inspect {path}"


def _folder_name(name: str) -> str:
    """Return the last part of a model's name as a recipe folder is called: `Model-1.5B` becomes `model_1_5b`."""
    last = Path(name.replace("\\", "/")).name.lower()
    slug = re.sub(r"\W+", "_", last, flags=re.ASCII).strip("_")
    if not slug:
        raise UserError(f"{name!r} gives no name for a folder; name one with --output")
    return slug


def choose_template(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], folder: str
) -> Template:
    """Return the model's own chat template if training can use it, else that without thinking, else a plain one.

    Raises UserError if not even the plain one gives rows that end in a stop token and read back.
    """
    own = tokenizer.chat_template
    own = own.get("default") if isinstance(own, dict) else own
    refused = "the model has none"
    if own:
        candidates = [(None, own, "the model's own")]
        if "enable_thinking" in own:
            candidates.append((NO_THINKING + own, NO_THINKING + own, f"{TEMPLATE}, the model's own without thinking"))
        for text, used, reason in candidates:
            try:
                return Template(text, reason, *_try(recipe, tokenizer, stop_ids, used))
            except UserError as error:
                refused = f"training cannot use the model's own: {error}"
    plain = (shipped_recipes() / "tiny" / TEMPLATE).read_text(encoding="utf-8")
    plain = plain.replace("tiny chat template", f"{folder} chat template")
    try:
        return Template(plain, f"{TEMPLATE}, a plain one; {refused}", *_try(recipe, tokenizer, stop_ids, plain))
    except UserError as error:
        raise UserError(f"{recipe.model.name_or_path}: no chat template works: {error}") from error


def _try(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], template: str) -> tuple[str, str]:
    """Return a row as it renders and the token that ends its answer. Raises UserError as preparing a row does."""
    before, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        task = make_task(recipe)
        examples = [task.example(Record(dict(row), "example row")) for row in ROWS]
        rows = RowMaker(tokenizer, stop_ids).make(examples)
        ReadBack(tokenizer, stop_ids, task, TEMPLATE).check(list(zip(rows, examples, strict=True)))
        stop = tokenizer.decode([last_token(tokenizer, rows[0].answer_ids, stop_ids)])
        return _rendered(tokenizer, examples[0]), str(stop)
    finally:
        tokenizer.chat_template = before


def _rendered(tokenizer: PreTrainedTokenizerBase, example: Example) -> str:
    answer = {"role": "assistant", "content": example.completion}
    return render_texts(tokenizer, [[*example.messages, answer]], add_generation_prompt=False)[0]  # type: ignore[list-item]


def _config_json(recipe: Recipe) -> dict[str, Any]:
    """Return the model's config.json with the place and the day it was read."""
    name, revision = recipe.model.name_or_path, recipe.model.revision or "main"
    path = cached_file(name, "config.json", revision=revision)
    assert path is not None  # load_config has read it
    values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    place = "a local folder" if os.path.isdir(name) else f"the Hub, {name}, revision {revision}"
    return values | {SOURCE: f"read from {place} on {datetime.date.today().isoformat()}"}


def _write(folder: Path, model: NewModel, template: Template, config: dict[str, Any]) -> None:
    """Write the folder at once. Raises UserError if it exists or cannot be written."""
    with exclusive(folder, REMEDY):
        _refuse_existing(folder)
        with new_directory(folder, REMEDY) as temporary:
            schema = (folder.parent / SCHEMA).is_file()
            files = {f"{method}.yaml": recipe_text(model, method, schema=schema) for method in METHODS}
            files["README.md"] = _readme(model, template)
            files["config.json"] = to_json(config, indent=2) + "\n"
            if template.text is not None:
                files[TEMPLATE] = template.text
            for file, text in files.items():
                (temporary / file).write_text(text, encoding="utf-8", newline="\n")


def _refuse_existing(folder: Path) -> None:
    if (folder / "qlora_8gb.yaml").is_file():
        raise UserError(f"{folder} exists; use its recipes, such as {folder}/qlora_8gb.yaml, or {REMEDY}")
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists; delete it or {REMEDY}")


def _describe(config: PretrainedConfig, positions: int | None) -> str:
    text = config.get_text_config()
    names = ", ".join(config.architectures or [config.model_type])
    layers = getattr(text, "num_hidden_layers", "unknown")
    return f"{names}, {layers} layers, {positions or 'any number of'} positions"


def _readme(model: NewModel, template: Template) -> str:
    rows = "\n".join(f"| [{name}.yaml]({name}.yaml) | {method.purpose} |" for name, method in METHODS.items())
    return f"""# {model.name_or_path}

Licence and access: see the model's page. No GPU has run these recipes yet.

| recipe | for |
|---|---|
{rows}

## Chat template

{template.reason[0].upper()}{template.reason[1:]}. A row renders as

```text
{template.row.rstrip()}
```

`{template.stop}` ends the answer, in training and in generation.
"""
