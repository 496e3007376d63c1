"""Decode the held-out rows of a run in several processes, and save every answer so that decoding can resume."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qdsft.console import say
from qdsft.data.examples import Example, examples_sha256
from qdsft.errors import UserError
from qdsft.inference.loaded_run import LoadedRun
from qdsft.inference.processes import Processes
from qdsft.runs.layout import CARD, decoded_log_path, decoded_log_paths
from qdsft.runs.manifest import Manifest
from qdsft.runs.resume_log import Identity, open_log, read_log
from qdsft.tokenization.length_limit import encode_examples
from qdsft.tokenization.rows import Row


@dataclass(frozen=True)
class Decoded:
    """The answer to one row, with its loss."""

    text: str
    stopped: bool
    tokens: int
    """Generated tokens."""
    seconds: float
    """Decoding time of the batch on its first row; 0 on its other rows."""
    loss: float
    """Nats per supervised token of the gold answer."""
    supervised: int
    """Number of supervised tokens."""


def decode_share(
    loaded: LoadedRun, examples: Sequence[Example], model: str, processes: Processes, batch_size: int
) -> dict[int, Decoded]:
    """Return index into `examples` -> answer and loss, for the share of this process.

    `model` is tuned, constrained or baseline. Every answer is appended to a file of the run directory when its batch
    ends, and rows in such a file of any process are not decoded again. Raises UserError as `LoadedRun.stream`.
    """
    identity = identify(loaded.run_dir, loaded.manifest, examples, model)
    done: dict[int, Decoded] = {}
    for path in decoded_log_paths(loaded.run_dir, model):
        done |= read_log(path, identity, Decoded)
    own = processes.share(len(examples))
    missing = [index for index in own if index not in done]
    if len(done) and processes.is_main:
        say(f"{len(done)} of {len(examples)} rows were decoded before an interruption")
    path = decoded_log_path(loaded.run_dir, model, processes.rank)
    constrained = model == "constrained"
    with open_log(path, identity, Decoded, remedy="evaluate a copy of the run on another disk") as log:
        for index, decoded in _decode(loaded, examples, missing, batch_size, processes, constrained=constrained):
            log.add(index, decoded)
    done |= log.results
    return {index: done[index] for index in own}


def forget(run_dir: Path, model: str) -> None:
    """Remove the files of `decode_share`, after the final file is written."""
    for path in decoded_log_paths(run_dir, model):
        path.unlink(missing_ok=True)


def identify(run_dir: Path, manifest: Manifest, examples: Sequence[Example], model: str) -> Identity:
    """Return everything that the answers depend on: run, weights, rows and length limit, but not the batch size."""
    folder = manifest.weights_folder(run_dir)
    weights = [
        [path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CARD  # every evaluation writes the card
    ]
    return {
        "qdsft_partial": 1,
        "model": model,
        "run": manifest.sha256(),
        "weights": [] if model == "baseline" else weights,
        "rows": examples_sha256(examples),
        "max_new_tokens": manifest.load_recipe().evaluation.max_new_tokens,
    }


def join_shares(shares: Sequence[dict[int, Decoded]], rows: int) -> list[Decoded]:
    """Return the answers of all rows, in order; raises UserError if the processes did not evaluate the same rows."""
    found: dict[int, Decoded] = {}
    for share in shares:
        found |= share
    if sorted(found) != list(range(rows)):
        raise UserError(
            f"the processes decoded {len(found)} rows, not {rows}; give all of them the same run directory and options"
        )
    return [found[index] for index in range(rows)]


def gold_loss(model: Any, row: Row) -> float:
    """Return the negative log-likelihood of the gold answer per supervised token, in nats."""
    supervised = len(row.input_ids) - row.prompt_length
    ids = torch.tensor([row.input_ids], device=model.device)
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=supervised + 1).logits
    scores = torch.log_softmax(logits[0, -supervised - 1 : -1].float(), dim=-1)
    targets = ids[0, row.prompt_length :]
    return -float(scores.gather(1, targets[:, None]).sum()) / supervised


def _decode(
    loaded: LoadedRun,
    examples: Sequence[Example],
    places: Sequence[int],
    batch_size: int,
    processes: Processes,
    *,
    constrained: bool,
) -> Iterator[tuple[int, Decoded]]:
    """Yield (place, answer) for the rows at `places` as their batches end."""
    rows = [examples[place] for place in places]
    if not rows:
        return
    encoded = encode_examples(
        loaded.tokenizer, rows, loaded.manifest.stop_token_ids, max_length=None, overlength="error"
    ).rows
    answers = loaded.stream(
        [row.messages for row in rows], batch_size=batch_size, progress=processes.is_main, constrained=constrained
    )
    start = time.monotonic()
    for index, answer in answers:
        seconds = time.monotonic() - start
        row = encoded[index]
        decoded = Decoded(
            text=answer.text,
            stopped=answer.stopped,
            tokens=answer.tokens,
            seconds=seconds,
            loss=gold_loss(loaded.model, row),
            supervised=len(row.input_ids) - row.prompt_length,
        )
        yield places[index], decoded
        start = time.monotonic()
