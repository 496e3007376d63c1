"""Convert a model to GGUF with llama.cpp's own script, and check the result."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from qdsft.deploy.served_folder import TOKENIZER, stage
from qdsft.errors import UserError
from qdsft.files import write_json
from qdsft.inference.loaded_run import RunPrompts
from qdsft.optional_packages import require
from qdsft.strict_json import read_object
from qdsft.tokenization.chat_template import render_texts, special_token_pattern

PIECES = "tokenizer.model"
"""A sentencepiece vocabulary. It is exact where a model has it, and required for some architectures."""
SPACE = "▁"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
CONTROL = 3
"""A value of tokenizer.ggml.token_type."""


@dataclass(frozen=True)
class GgufFacts:
    """Properties of a GGUF file."""

    add_bos: bool
    """Whether BOS is added to every prompt."""
    tensors: int


def find_converter(script: Path | None) -> list[str]:
    """Return the command that runs llama.cpp's converter. Raises UserError without a script that exists."""
    if script is None:
        raise UserError(
            "qdsft export-gguf requires llama.cpp's converter; get it with: git clone --depth 1 "
            "https://github.com/ggml-org/llama.cpp, and give --converter llama.cpp/convert_hf_to_gguf.py"
        )
    if not script.is_file():
        raise UserError(f"{script}: no such file; give llama.cpp's convert_hf_to_gguf.py")
    return [sys.executable, str(script)] if script.suffix == ".py" else [str(script)]


def stage_for_conversion(run: RunPrompts, folder: Path) -> None:
    """Stage a run as `stage` does, and add what the converter reads from other files than transformers.

    Raises UserError if a file of the model cannot be read.
    """
    stage(run, folder)
    tokenizer = run.tokenizer
    settings = read_object(folder / TOKENIZER, "put it back or train again")
    if SPACE in tokenizer.get_vocab():
        settings["add_prefix_space"] = _begins_with_a_space(run)
    write_json(folder / TOKENIZER, settings)
    if not (folder / PIECES).exists():
        if pieces := _base_pieces(run):
            (folder / PIECES).symlink_to(pieces.resolve())
        elif SPACE in tokenizer.get_vocab() and (merges := _merges(run)):
            (folder / PIECES).write_bytes(_make_pieces(run, merges))
    config = read_object(folder / "config.json", "put it back or train again")
    share = (config.get("rope_parameters") or {}).get("partial_rotary_factor")
    if share is not None:  # the keys of transformers 4, which the converter reads
        config = {"rotary_pct": share, "partial_rotary_factor": share, **config}
        (folder / "config.json").unlink()
        write_json(folder / "config.json", config)


def convert(converter: list[str], folder: Path, target: Path, kind: str) -> None:
    """Write the model in `folder` as the GGUF file `target`; raises UserError with the converter's last line."""
    command = [*converter, str(folder), "--outfile", str(target), "--outtype", kind]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise UserError(f"{converter[0]}: cannot be started: {error.strerror}; give another --converter") from error
    if done.returncode or not target.is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            f"the converter cannot convert this model: {(said or ['it printed nothing'])[-1][:300]}; a newer "
            "llama.cpp may: git pull in its folder"
        )


def check_file(path: Path, run: RunPrompts) -> GgufFacts:
    """Read a GGUF file back.

    Raises UserError unless it has the run's chat template, the run's tokens with their ids, the stop tokens as control
    tokens, one of them as end-of-sequence token, and weights.
    """
    reader = _reader(path)

    def value(key: str) -> Any:
        field = reader.fields.get(f"tokenizer.{key}")
        return None if field is None else field.contents()

    tokens, kinds, stops = value("ggml.tokens") or [], value("ggml.token_type") or [], run.manifest.stop_token_ids
    vocabulary = {number: token for token, number in run.tokenizer.get_vocab().items()}
    wrong = [number for number, token in vocabulary.items() if _spaced(tokens, number) != token.replace(SPACE, " ")]
    if value("chat_template") != run.tokenizer.chat_template:
        raise UserError(f"{path}: the converter wrote another chat template than the run's; use another --converter")
    if wrong:
        raise UserError(
            f"{path}: token {wrong[0]} and {len(wrong) - 1} others are not those of the run's tokenizer; use another "
            "--converter"
        )
    if value("ggml.eos_token_id") not in stops or any(kinds[stop] != CONTROL for stop in stops):
        raise UserError(f"{path}: the stop tokens {stops} do not end an answer in this file; use another --converter")
    if not reader.tensors:
        raise UserError(f"{path}: no weights; use another --converter")
    return GgufFacts(add_bos=bool(value("ggml.add_bos_token")), tensors=len(reader.tensors))


def _spaced(tokens: list[str], number: int) -> str | None:
    """Return a token with spaces for ▁, which the converter replaces in some tokens only."""
    return tokens[number].replace(SPACE, " ") if number < len(tokens) else None


def _reader(path: Path) -> Any:
    require("gguf", "qdsft export-gguf", "gguf")
    import gguf

    try:
        return gguf.GGUFReader(str(path))
    except (ValueError, IndexError, OSError) as error:
        raise UserError(f"{path}: not a GGUF file: {error}; use another --converter") from error


def _merges(run: RunPrompts) -> list[list[str]]:
    backend = getattr(run.tokenizer, "backend_tokenizer", None)
    model = json.loads(backend.to_str())["model"] if backend else {}
    return list(model.get("merges") or [])


def _make_pieces(run: RunPrompts, merges: list[list[str]]) -> bytes:
    """Return a tokenizer.json's vocabulary as a sentencepiece file: tokens by id, higher scores for earlier merges.

    Without this file the converter refuses some architectures, and gives all tokens of others the same score. llama.cpp
    merges the pair with the highest score first, so it would split text into other tokens than in training.
    """
    require("gguf", "qdsft export-gguf", "sentencepiece")
    from sentencepiece import sentencepiece_model_pb2 as proto

    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault("".join(pair), rank)
    added = run.tokenizer.added_tokens_decoder
    kinds = proto.ModelProto.SentencePiece.Type
    model = proto.ModelProto()
    model.trainer_spec.model_type = proto.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    vocabulary = {number: token for token, number in run.tokenizer.get_vocab().items()}
    for number in range(max(vocabulary) + 1):
        token = vocabulary.get(number, f"[UNUSED{number}]")
        kind = "NORMAL"
        if number not in vocabulary:
            kind = "UNUSED"
        elif token == run.tokenizer.unk_token:
            kind = "UNKNOWN"
        elif BYTE.fullmatch(token):
            kind = "BYTE"
        elif number in added:
            kind = "CONTROL" if added[number].special else "USER_DEFINED"
        model.pieces.add(piece=token, score=-float(ranks.get(token, len(merges))), type=kinds.Value(kind))
    content: bytes = model.SerializeToString()
    return content


def _begins_with_a_space(run: RunPrompts) -> bool:
    """Return whether the tokenizer puts a space before the first text of the run's prompts."""
    text = render_texts(run.tokenizer, [run.manifest.golden_prompts[0].messages], add_generation_prompt=True)[0]
    special = special_token_pattern(run.tokenizer)
    begin = 0
    while special and (match := special.match(text, begin)):
        begin = match.end()
    lead = len(run.tokenizer(text[:begin], add_special_tokens=False)["input_ids"]) if begin else 0
    ids = run.tokenizer(text[:begin] + "a", add_special_tokens=False)["input_ids"]
    return str(run.tokenizer.convert_ids_to_tokens(ids[lead])).startswith(SPACE)


def _base_pieces(run: RunPrompts) -> Path | None:
    """Return the base model's sentencepiece file, if it has one that can be reached."""
    name = run.manifest.base_model.name_or_path
    if Path(name).is_dir():
        found: Path | None = Path(name) / PIECES
        return found if found and found.is_file() else None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, PIECES, revision=run.manifest.base_model.revision))
    except (OSError, ValueError, httpx2.HTTPError):
        return None  # no such file, no connection, no access, or not on the Hub: tokenizer.json has the vocabulary too
