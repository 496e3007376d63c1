"""Show training rows as the model sees them: their lengths, and which tokens carry loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pyarrow.compute as compute
from transformers import PreTrainedTokenizerBase

from qdsft.console import visible
from qdsft.data.sources import read_rows
from qdsft.data.split import stream_split
from qdsft.model.loading import load_config, load_tokenizer, stop_token_ids
from qdsft.recipe import Recipe
from qdsft.tokenization.length_limit import Encoder
from qdsft.tokenization.prepared import Prepared, describe_data, prepare
from qdsft.tokenization.rows import Row, RowMaker

BAR = 40
"""Width of the longest bar of the histogram, in characters."""
BUCKETS = 12
PROMPT, ANSWER, MARKED, RESET = "\033[2m", "\033[32m", "\033[7m", "\033[0m"


def inspect(recipe: Recipe, rows: int, *, colour: bool) -> Iterator[str]:
    """Yield lines that show the data of a recipe and its first `rows` training rows.

    Raises UserError as `load_tokenizer` and `prepare` do.
    """
    tokenizer = load_tokenizer(recipe)
    stop_ids = stop_token_ids(recipe, tokenizer, load_config(recipe))
    prepared = prepare(recipe, tokenizer, stop_ids)
    yield from describe_data(prepared, recipe)
    yield ""
    yield from histogram(sample_lengths(prepared))
    encoder = Encoder(RowMaker(tokenizer, stop_ids), recipe.max_length, recipe.data.overlength)
    train = (example for side, example in stream_split(recipe, read_rows) if side == "train")
    # overlength: drop can skip examples, so rows are counted after encoding.
    encoded = (pair for example in train for pair in encoder.encode([example]))
    for row, example in islice(encoded, rows):
        yield ""
        yield f"{example.record.source}: {len(row.input_ids)} tokens, {len(row.answer_ids)} with loss"
        yield from show_row(row, tokenizer, stop_ids, colour=colour)


def sample_lengths(prepared: Prepared) -> np.ndarray:
    """Return the number of tokens of every training sample, packed or not: `[sample]`."""
    table = prepared.train.data.table
    if "seq_lengths" in table.column_names:
        return np.asarray(compute.list_flatten(table["seq_lengths"]))
    return np.asarray(compute.list_value_length(table["input_ids"]))


def histogram(lengths: np.ndarray) -> Iterator[str]:
    """Yield the number of samples by length, as bars of text."""
    width = max(int(np.ceil((lengths.max() + 1) / BUCKETS)), 1)
    counts = np.bincount(lengths // width)
    yield f"{'tokens':>13}  {'samples':>9}"
    for bucket in range(int(lengths.min()) // width, len(counts)):
        bar = "#" * int(np.ceil(BAR * counts[bucket] / counts.max()))
        yield f"{bucket * width:>6}-{(bucket + 1) * width - 1:<6}  {counts[bucket]:>9}  {bar}".rstrip()


def show_row(row: Row, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], *, colour: bool) -> Iterator[str]:
    """Yield the text of a row token by token, with BOS and stop tokens marked and the answer kept apart.

    With `colour`, prompt tokens are dim, tokens with loss are green, and the text keeps its lines. Without,
    `│` separates tokens and line breaks are written as `\\n`.
    """
    special = {tokenizer.bos_token_id: "BOS", **dict.fromkeys(stop_ids, "STOP")}
    prompt, answer = (
        list(_token_texts(tokenizer, ids)) for ids in (row.input_ids[: row.prompt_length], row.answer_ids)
    )
    if colour:
        yield "".join(
            f"{MARKED}{special[token]} {text}{RESET}" if token in special else f"{style}{text}{RESET}"
            for style, part in ((PROMPT, prompt), (ANSWER, answer))
            for text, token in part
        )
        return
    for name, part in (("no loss", prompt), ("loss", answer)):
        shown = (f"[{special[token]} {text}]" if token in special else text for text, token in part)
        yield f"  {name:<7} {'│'.join(shown)}".replace("\n", "\\n")


def _token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Yield (text, id) of every token. Tokens that share one character are joined, with the id of the last."""
    done = ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and end < len(ids):
            continue
        yield visible(text[len(done) :]), ids[end - 1]
        done = text
