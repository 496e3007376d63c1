"""Prepare a finished model for other programs: greedy decoding, the run's stop tokens, the trained tokenization."""

from __future__ import annotations

import shlex
from pathlib import Path

from qdsft.console import say
from qdsft.files import write_json
from qdsft.inference.generation_config import generation_config
from qdsft.inference.loaded_run import RunPrompts
from qdsft.runs.certificate import read_certificate
from qdsft.runs.layout import MERGE_FILE
from qdsft.strict_json import read_object

GENERATION = "generation_config.json"
TOKENIZER = "tokenizer_config.json"


def stage(run: RunPrompts, folder: Path) -> None:
    """Fill the new folder with links to the run's adapter or model, and with settings that make other programs answer
    as the run does.

    generation_config.json gets the run's stop tokens and length, and no sampling. The base model's own file could
    change answers even in greedy decoding (repetition_penalty). tokenizer_config.json turns off the clean-up of spaces,
    which turns the step "1. ?" into "1.?", and token_type_ids, which some models refuse. It also gets a response
    template that takes all text up to a stop token as the answer: for some architectures transformers serve has its own
    template, which counts a prompt in another form as part of the answer.

    Raises UserError if the tokenizer's settings or the certificate of a merge cannot be read.
    """
    source = run.manifest.weights_folder(run.run_dir)
    _warn_of_merge(source)
    folder.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.suffix == ".py" and not run.recipe.model.trust_remote_code:
            continue
        if path.is_file() and path.name not in {GENERATION, TOKENIZER}:
            (folder / path.name).symlink_to(path.resolve())
    write_json(folder / GENERATION, generation_config(run.manifest, run.tokenizer))
    stops = run.tokenizer.convert_ids_to_tokens(run.manifest.stop_token_ids)
    settings = {
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "response_template": {
            "defaults": {"role": "assistant"},
            "start_anchor_pattern": "(?s).+",  # the whole prompt
            "fields": {"content": {"close": stops, "content": "text"}},
        },
    }
    write_json(folder / TOKENIZER, {**read_object(source / TOKENIZER, "put it back or train again"), **settings})


def merge_command(run_dir: Path, then: str) -> str:
    """Return the remedy for a program that requires a whole model; `then` completes "and ... DIR"."""
    return f"merge it with: qdsft merge {shlex.quote(str(run_dir))} --output DIR, and {then} DIR"


def served_name(run_dir: Path) -> str:
    """Return the name of a run's model on a server: its folder's name, in characters that a URL leaves unescaped."""
    name = run_dir.resolve().name
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)


def _warn_of_merge(folder: Path) -> None:
    certificate = read_certificate(folder)
    if certificate is not None and certificate.passed is False:
        say(f"warning: {folder / MERGE_FILE}: this merged model does not agree with the adapter as it was trained")
