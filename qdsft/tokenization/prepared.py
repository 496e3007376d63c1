"""Prepared data: split, tokenized and packed rows in Arrow files, memory-mapped for training.

Preparation streams: neither the rows nor their tokens are all held in memory. The result is cached under a key of
everything that changes it, so that a second run and the other processes of this run only read it.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import datasets
import pyarrow as arrow
import tokenizers
import transformers
import trl
from datasets import Dataset
from huggingface_hub import constants
from pydantic import BaseModel
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from qdsft.console import is_main_process, say
from qdsft.data import sources
from qdsft.data.checks.summary import RunningCheck, summarise_check
from qdsft.data.examples import Example
from qdsft.data.record import RowError
from qdsft.data.split import SplitTally, nothing_held_out, stream_split
from qdsft.data.task import make_task
from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.files import disk_errors, write_json
from qdsft.model.template import template_name
from qdsft.recipe import Recipe
from qdsft.runs.facts import DataFacts, PackingFacts, TokenFacts
from qdsft.runs.layout import EVAL_ROWS
from qdsft.runs.manifest import GoldenPrompt
from qdsft.tokenization.length_limit import BATCH, Encoder
from qdsft.tokenization.read_back import ReadBack
from qdsft.tokenization.row_files import SCHEMA, load_rows, pack_file, record_batch
from qdsft.tokenization.rows import Row, RowMaker

FACTS = "facts.json"
GOLDEN_PROMPTS = 3
CACHE_VERSION = 3
"""Raise this number with any change of the code that changes prepared rows: older caches are then not read."""


class PreparedFacts(BaseModel):
    """Facts about prepared data, stored beside the rows."""

    data: DataFacts
    tokens: TokenFacts
    """The training rows."""
    eval_tokens: TokenFacts
    """The held-out rows."""
    golden_prompts: list[GoldenPrompt]
    """The first prompts of the training rows."""
    findings: str | None
    """The line that says what `qdsft data check` finds in the rows."""


@dataclass(frozen=True)
class Prepared:
    """The data of a run, memory-mapped."""

    folder: Path
    train: Dataset
    """Columns input_ids and labels, `[row][token]`; if packed also seq_lengths, the lengths of the samples in a row."""
    eval: Dataset | None
    facts: PreparedFacts

    @property
    def eval_rows(self) -> Path:
        """JSON Lines file of the held-out examples, as `Example.to_json` writes them."""
        return self.folder / EVAL_ROWS


def prepare(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> Prepared:
    """Return the prepared data of a recipe, from the cache if possible.

    Raises UserError as `sources.read_rows`, `stream_split` and `Encoder` do, if every training row was
    dropped, and if the cache folder cannot be written or its contents not be read.
    """
    key = cache_folder() / _key(recipe, tokenizer, stop_ids)
    # Nothing in the cache is ever removed, because another process may be reading it. A damaged folder is left there
    # and a second one is used instead.
    with _tokenizer_threads(), _short_collections():
        for folder in (key, key.with_name(f"{key.name}-1")):
            if not folder.exists():
                _make_folder(recipe, tokenizer, stop_ids, folder)
            if prepared := _open(folder):
                return prepared
    raise UserError(f"{key}: damaged, and so is its replacement {key.name}-1; delete both")


def describe_data(prepared: Prepared, recipe: Recipe) -> Iterator[str]:
    """Yield lines about the rows to train on and the effect of overlength and packing."""
    data, tokens = prepared.facts.data, prepared.facts.tokens
    if prepared.facts.findings:
        yield prepared.facts.findings
    note = f", {data.left_out} left out because they are in data.eval" if data.left_out else ""
    yield f"data: {data.train_rows} rows to train on, {data.eval_rows} held out{note}"
    if data.train_sources:
        shares = (f"{name} {rows} rows ({rows / data.train_rows:.1%})" for name, rows in data.train_sources.items())
        yield f"mix of an epoch: {', '.join(shares)}"
    if nothing := nothing_held_out(recipe, data.train_rows, data.eval_rows):
        yield nothing
    yield (
        f"training: {tokens.rows} rows, {tokens.tokens} tokens ({tokens.shortest} to {tokens.longest} a row), "
        f"{tokens.supervised_share:.0%} supervised"
    )
    if tokens.packing:
        yield f"packing: {tokens.packing.rows} rows of {recipe.max_length} tokens, {tokens.packing.efficiency:.1%} full"
    for name, side in (("training", tokens), ("held out", prepared.facts.eval_tokens)):
        if side.dropped or side.truncated:
            yield (
                f"{name}: over {recipe.max_length} tokens: {side.dropped} rows dropped, {side.truncated} rows "
                "shortened (data.overlength)"
            )


def cache_folder() -> Path:
    """Return `$QDSFT_CACHE`, by default `qdsft` in the cache of the Hugging Face libraries (`$HF_HOME`)."""
    return Path(variable("QDSFT_CACHE") or Path(constants.HF_HOME) / "qdsft")


def _key(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> str:
    """Return a hash of everything that the prepared data depend on."""
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


def _make_folder(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], folder: Path) -> None:
    """Prepare in a temporary folder, then rename it: of several processes, the first to finish provides the data."""
    cache = folder.parent
    with disk_errors(folder, "set QDSFT_CACHE to another folder"):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=cache, ignore_cleanup_errors=True) as place:
            # A folder inside, because the temporary folder can be read by its owner only.
            made = Path(place) / folder.name
            made.mkdir()
            _make(recipe, tokenizer, stop_ids, made)
            try:
                os.replace(made, folder)
            except OSError:
                if not folder.exists():
                    raise


def _open(folder: Path) -> Prepared | None:
    """Return the data in a folder; None if a part is missing or damaged."""
    try:
        facts = PreparedFacts.model_validate_json((folder / FACTS).read_text(encoding="utf-8"))
        train, held_out = (load_rows(folder / f"{side}.arrow") for side in ("train", "eval"))
    except (OSError, ValueError, arrow.ArrowException):
        return None
    return Prepared(folder, train, held_out, facts) if train and (folder / EVAL_ROWS).is_file() else None


@contextmanager
def _tokenizer_threads() -> Iterator[None]:
    """Let the tokenizer use its threads, then turn them off: they would block in forked data loader workers."""
    name = "TOKENIZERS_PARALLELISM"
    set_by_user = name in os.environ
    os.environ.setdefault(name, "true")
    try:
        yield
    finally:
        if not set_by_user:
            os.environ[name] = "false"


@contextmanager
def _short_collections() -> Iterator[None]:
    """Keep the garbage collector from visiting the objects of imported libraries: a quarter of the time of a row."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _make(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], folder: Path) -> None:
    tally = SplitTally()
    maker = RowMaker(tokenizer, stop_ids)
    read_back = ReadBack(tokenizer, stop_ids, make_task(recipe), template_name(tokenizer))
    check = RunningCheck(recipe)
    with ExitStack() as files:
        train, held_out = (
            _Side(Encoder(maker, recipe.max_length, recipe.data.overlength), read_back, folder / f"{side}.arrow", files)
            for side in ("train", "eval")
        )
        held_out.text = files.enter_context((folder / EVAL_ROWS).open("w", encoding="utf-8", newline="\n"))
        split = stream_split(recipe, sources.read_rows, check.add)
        try:
            for side, example in tqdm(split, desc="preparing", unit="row", delay=2, disable=not is_main_process()):
                tally.add(side, example)
                if side == "train":
                    train.add(example)
                elif side == "eval":
                    held_out.add(example)
        except RowError:
            if findings := summarise_check(recipe, lengths=False):  # the error names the first row only
                say(findings)
            raise
        train.finish()
        held_out.finish()
    if not train.encoder.counts.rows:
        raise UserError(f"{recipe.where('data.overlength')}: every training row was dropped; raise training.max_length")
    facts = PreparedFacts(
        data=DataFacts.model_validate(tally.summary()),
        tokens=train.facts(recipe, pack=recipe.packing),
        eval_tokens=held_out.facts(recipe, pack=recipe.packing and recipe.training_value("eval_packing") is not False),
        golden_prompts=[
            GoldenPrompt(messages=[dict(m) for m in example.messages], ids=row.input_ids[: row.prompt_length])
            for row, example in train.first
        ],
        findings=check.summary(),
    )
    write_json(folder / FACTS, facts.model_dump())


class _Side:
    """Encode the rows of one side of the split batch by batch and write them to an Arrow file."""

    def __init__(self, encoder: Encoder, read_back: ReadBack, path: Path, files: ExitStack) -> None:
        self.encoder = encoder
        self._read_back = read_back
        self.first: list[tuple[Row, Example]] = []
        """The first GOLDEN_PROMPTS rows."""
        self.text: TextIO | None = None
        """Receives the examples that are kept, as JSON lines."""
        self._path = path
        self._pending: list[Example] = []
        self._begun: Callable[[], list[tuple[Row, Example]]] = list
        """Waits for the rows of the batch that is being tokenized."""
        file = files.enter_context(path.open("wb"))
        self._arrow = files.enter_context(arrow.ipc.new_stream(file, SCHEMA))

    def add(self, example: Example) -> None:
        self._pending.append(example)
        if len(self._pending) == BATCH:
            self._write()

    def finish(self) -> None:
        """Write the last two batches; raises UserError as `Encoder.finish` does."""
        self._write()
        self._write()
        self.encoder.finish()

    def facts(self, recipe: Recipe, *, pack: bool) -> TokenFacts:
        """Return the facts about the rows, and pack the closed file if asked to."""
        counts = self.encoder.counts
        if not pack or not counts.rows:
            return counts.summary()
        assert recipe.max_length is not None
        rows = pack_file(self._path, recipe.max_length, recipe.training_value("packing_strategy") or "bfd")
        return counts.summary(PackingFacts(rows=rows, efficiency=round(counts.tokens / (rows * recipe.max_length), 4)))

    def _write(self) -> None:
        """Write the batch before the pending one, which is tokenized in the meantime."""
        before, self._begun = self._begun, self.encoder.start(self._pending)
        self._pending = []
        kept = before()
        self._read_back.check(kept)
        if kept:
            self._arrow.write_batch(record_batch([row for row, _ in kept]))
        self.first += kept[: GOLDEN_PROMPTS - len(self.first)]
        if self.text:
            self.text.writelines(example.to_json() + "\n" for _, example in kept)
