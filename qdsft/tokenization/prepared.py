"""Prepared data: split, tokenized, packed, on disk as Arrow and read from there without loading it.

Preparing streams: neither the rows nor their tokens are held in memory. The result is kept under a key
of everything that shapes it, so that a second run, and every other process of this one, only reads it.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as arrow
import tokenizers
import transformers
import trl
from datasets import Dataset
from datasets.table import MemoryMappedTable
from huggingface_hub import constants
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase
from trl import pack_dataset

from qdsft.console import is_main_process
from qdsft.data import sources
from qdsft.data.examples import Example
from qdsft.data.split import Tally, stream_split
from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.files import disk_errors, write_json
from qdsft.recipe import Recipe
from qdsft.runs.layout import EVAL_ROWS
from qdsft.tokenization.length_limit import BATCH, Encoder
from qdsft.tokenization.packing import COLUMNS, PACKED, TOGETHER, Packer
from qdsft.tokenization.rows import Block, Row, RowMaker

FACTS = "facts.json"
OUR_STRATEGY = "bfd"
"""TRL's default, and what `packing.bins` refines; its other strategies cut samples and are left to it."""
GOLDEN_PROMPTS = 3
CACHE_VERSION = 1
"""Raise this number with any change of the code that changes prepared rows: older caches are then not read."""


@dataclass(frozen=True)
class Prepared:
    """The data of a run, memory-mapped."""

    folder: Path
    train: Dataset
    """Columns input_ids and labels, `[row][token]`; packed also seq_lengths, the lengths of the samples in a row."""
    eval: Dataset | None
    data: dict[str, Any]
    """Row counts and hashes of the split, as `examples.Tally.summary`."""
    tokens: dict[str, Any]
    """Counts of the training rows, as `encoder.Counts.summary`, and `packing` (None without it)."""
    eval_tokens: dict[str, Any]
    golden_prompts: list[dict[str, Any]]
    """The first prompts of the training rows: `messages` and `ids`."""

    @property
    def eval_rows(self) -> Path:
        """JSON Lines of the held-out examples, as `run.write_eval_rows` writes them."""
        return self.folder / EVAL_ROWS


def prepare(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> Prepared:
    """The prepared data of a recipe: from the cache if it is there, else made and put there.

    Raises UserError as `corpus.read_rows`, `examples.stream_split` and `encoder.Encoder` do, if every row
    was dropped, and if the cache folder cannot be written or what lies there not be read.
    """
    key = cache_folder() / _key(recipe, tokenizer, stop_ids)
    # Nothing is ever removed there, since others may be at it: where a folder lost a part, another takes its place.
    for folder in (key, key.with_name(f"{key.name}-1")):
        if not folder.exists():
            _make_folder(recipe, tokenizer, stop_ids, folder)
        if prepared := _opened(folder):
            return prepared
    raise UserError(f"{key}: damaged, and so is what was made in its place; delete both")


def _make_folder(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], folder: Path) -> None:
    """Each process works in a folder of its own, and the first to be done gives it its name."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with disk_errors(folder, "set QDSFT_CACHE to another folder"):
        try:
            temporary.mkdir(parents=True)
            _make(recipe, tokenizer, stop_ids, temporary)
            try:
                os.replace(temporary, folder)
            except OSError:
                if not folder.exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _opened(folder: Path) -> Prepared | None:
    """What lies there; None if it is not there or not whole."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        train, held_out = (_load(folder / f"{side}.arrow") for side in ("train", "eval"))
    except (OSError, ValueError, arrow.ArrowException):
        return None
    return Prepared(folder, train, held_out, **facts) if train and (folder / EVAL_ROWS).is_file() else None


def describe(prepared: Prepared, recipe: Recipe) -> Iterator[str]:
    """Lines that say what there is to train on, and what overlength and packing did."""
    data, facts = prepared.data, prepared.tokens
    note = f", {data['left_out']} left out because they stand in data.eval" if data["left_out"] else ""
    yield f"data: {data['train_rows']} rows to train on, {data['eval_rows']} held out{note}"
    yield (
        f"training: {facts['rows']} rows, {facts['tokens']} tokens ({facts['shortest']} to {facts['longest']} a row), "
        f"{facts['supervised_share']:.0%} supervised"
    )
    if packing := facts["packing"]:
        yield f"packing: {packing['rows']} rows of {recipe.max_length} tokens, {packing['efficiency']:.1%} full"
    for name, side in (("training", facts), ("held out", prepared.eval_tokens)):
        if side["dropped"] or side["truncated"]:
            yield (
                f"{name}: over {recipe.max_length} tokens: {side['dropped']} rows dropped, {side['truncated']} rows "
                "shortened (data.overlength)"
            )


def cache_folder() -> Path:
    """`$QDSFT_CACHE`, else `qdsft` in the folder where the Hub's libraries keep theirs (`$HF_HOME`)."""
    return Path(variable("QDSFT_CACHE") or Path(constants.HF_HOME) / "qdsft")


def of_rows(rows: Sequence[Row]) -> Dataset:
    """A few rows in memory."""
    return Dataset(arrow.Table.from_batches([_batch(Block.of(rows))], COLUMNS))


def _make(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], folder: Path) -> None:
    tally = Tally()
    with ExitStack() as files:
        # What was imported stays: looking through it for garbage, again and again, takes a quarter of the time.
        # Rows are no garbage either until their batch is written.
        files.callback(gc.set_threshold, *gc.get_threshold())
        gc.freeze()
        files.callback(gc.unfreeze)
        gc.set_threshold(50 * BATCH)
        maker = RowMaker(tokenizer, stop_ids)
        train, held_out = (
            _Side(Encoder(maker, recipe.max_length, recipe.data.overlength), folder, side, files, _size(recipe, side))
            for side in ("train", "eval")
        )
        bar = files.enter_context(tqdm(desc="preparing", unit="row", delay=2, disable=not is_main_process()))
        seen = 0
        for side, example in stream_split(recipe, sources.read_rows):
            tally.add(side, example)
            if side != "left_out":
                (train if side == "train" else held_out).add(example)
            if (seen := seen + 1) % BATCH == 0:
                bar.update(BATCH)
        bar.update(seen % BATCH)
        train.finish()
        held_out.finish()
    if not train.encoder.counts.rows:
        raise UserError(f"{recipe.where('data.overlength')}: every training row was dropped; raise training.max_length")
    packed = [_packed_rows(side, recipe) for side in (train, held_out)]
    facts = {
        "data": tally.summary(),
        "tokens": {**train.encoder.counts.summary(), "packing": packed[0]},
        "eval_tokens": held_out.encoder.counts.summary(),
        "golden_prompts": train.golden_prompts,
    }
    write_json(folder / FACTS, facts)


class _Side:
    """Encodes the rows of one side of the split batch after batch and writes them."""

    def __init__(self, encoder: Encoder, folder: Path, side: str, files: ExitStack, size: int | None) -> None:
        self.encoder = encoder
        self.path = folder / f"{side}.arrow"
        self.golden_prompts: list[dict[str, Any]] = []
        self._pending: list[Example] = []
        file = files.enter_context(self.path.open("wb"))
        self._arrow = files.enter_context(arrow.ipc.new_stream(file, PACKED if size else COLUMNS))
        self.packer = Packer(self._arrow, size) if size else None
        self._text = None
        if side == "eval":
            self._text = files.enter_context((folder / EVAL_ROWS).open("w", encoding="utf-8", newline="\n"))

    def add(self, example: Example) -> None:
        self._pending.append(example)
        if len(self._pending) == BATCH:
            self._write()

    def finish(self) -> None:
        self._write()
        self.encoder.finish()
        if self.packer:
            self.packer.finish()

    def _write(self) -> None:
        pending, self._pending = self._pending, []
        block, examples = self.encoder.keep(self.encoder.maker.make(pending), pending)
        if not examples:
            return
        if self.packer:
            self.packer.write(block)
        else:
            self._arrow.write_batch(_batch(block))
        wanted = GOLDEN_PROMPTS - len(self.golden_prompts)
        for row, example in zip(islice(block.rows(), wanted), examples, strict=False):
            prompt = {"messages": list(example.messages), "ids": row.input_ids[: row.prompt_length]}
            self.golden_prompts.append(prompt)
        if self._text:
            self._text.writelines(example.to_json() + "\n" for example in examples)


def _batch(block: Block) -> arrow.RecordBatch:
    offsets = arrow.array(block.ends, arrow.int32())
    columns = [arrow.ListArray.from_arrays(offsets, arrow.array(values)) for values in (block.ids, block.labels)]
    return arrow.RecordBatch.from_arrays(columns, schema=COLUMNS)


def _is_packed(recipe: Recipe, side: str) -> bool:
    return recipe.packing and (side == "train" or recipe.training_value("eval_packing") in {None, True})


def _strategy(recipe: Recipe) -> str:
    return recipe.training_value("packing_strategy") or OUR_STRATEGY


def _size(recipe: Recipe, side: str) -> int | None:
    """Tokens of a packed row, where we pack this side ourselves."""
    return recipe.max_length if _is_packed(recipe, side) and _strategy(recipe) == OUR_STRATEGY else None


def _packed_rows(side: _Side, recipe: Recipe) -> dict[str, Any] | None:
    """Packed rows and the share of their room that holds tokens; packs what is to be packed by TRL."""
    counts = side.encoder.counts
    if not counts.rows or not _is_packed(recipe, side.path.stem):
        return None
    assert recipe.max_length is not None
    if side.packer:
        rows = side.packer.rows
    else:
        loaded = _load(side.path)
        assert loaded is not None
        packed = side.path.with_suffix(".packed")
        options = {"batch_size": TOGETHER, "cache_file_name": str(packed), "desc": None}
        rows = len(pack_dataset(loaded, recipe.max_length, _strategy(recipe), options))
        del loaded
        os.replace(packed, side.path)
    return {"rows": rows, "efficiency": round(counts.tokens / (rows * recipe.max_length), 4)}


def _load(path: Path) -> Dataset | None:
    table = MemoryMappedTable.from_file(str(path))
    # The folder's name tells the contents, so that they need no fingerprint of datasets' own.
    return Dataset(table, fingerprint=f"{path.parent.name.strip('.')[:32]}-{path.stem}") if len(table) else None


def _key(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> str:
    """SHA-256 of everything that the prepared data depend on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = {
        "content": [sources.content_id(recipe, key) for key in ("train", "eval")],
        "data": recipe.data.model_dump(exclude={"train", "eval"}),
        "prompt": recipe.prompt.model_dump(),
        "template": tokenizer.chat_template,
        "tokenizer": backend.to_str() if backend else [type(tokenizer).__name__, tokenizer.get_vocab()],
        "special": tokenizer.special_tokens_map,
        "stop_ids": list(stop_ids),
        "training": {
            key: recipe.training_value(key) for key in ("max_length", "packing", "packing_strategy", "eval_packing")
        },
        "versions": [library.__version__ for library in (tokenizers, transformers, trl, datasets)],
        "cache_version": CACHE_VERSION,
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
