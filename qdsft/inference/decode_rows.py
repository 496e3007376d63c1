"""Decode the held-out rows of a run, shared by processes, with every answer saved so that decoding can resume."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from qdsft.console import say
from qdsft.data.examples import Example, fingerprint
from qdsft.errors import UserError
from qdsft.hashing import text_sha256
from qdsft.inference.generate import mean_loss
from qdsft.inference.loaded_run import LoadedRun
from qdsft.inference.processes import Processes
from qdsft.runs.kept_lines import Identity
from qdsft.runs.layout import MANIFEST
from qdsft.runs.manifest import Manifest
from qdsft.runs.partial import Decoded, append_to, partial_files, partial_path, read_all
from qdsft.tokenization.length_limit import encode_examples


def decode_share(
    loaded: LoadedRun, examples: Sequence[Example], model: str, processes: Processes, batch_size: int
) -> dict[int, Decoded]:
    """Return index into `examples` -> answer and loss, for the share of this process.

    `model` is tuned, constrained or baseline. Every answer is appended to a file of the run directory when its batch
    ends, and rows in such a file of any process are not decoded again. Raises UserError as `LoadedRun.stream`.
    """
    identity = identify(loaded.run_dir, loaded.manifest, examples, model)
    done = read_all(loaded.run_dir, model, identity)
    own = processes.share(len(examples))
    missing = [index for index in own if index not in done]
    if len(done) and processes.is_main:
        say(f"{len(done)} of {len(examples)} rows were decoded before an interruption")
    with append_to(partial_path(loaded.run_dir, model, processes.rank), identity) as file:
        for decoded in _decode(loaded, examples, missing, batch_size, processes, constrained=model == "constrained"):
            done[decoded.index] = decoded
            file.add(decoded)
    return {index: done[index] for index in own}


def forget(run_dir: Path, model: str) -> None:
    """Remove the files of `decode_share`, after the final file is written."""
    for path in partial_files(run_dir, model):
        path.unlink(missing_ok=True)


def identify(run_dir: Path, manifest: Manifest, examples: Sequence[Example], model: str) -> Identity:
    """Return what answers depend on: the run, its weights, the rows and the length limit, but not the batch size."""
    folder = manifest.folder(run_dir)
    weights = [
        [path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "README.md"  # every evaluation writes the card
    ]
    return {
        "qdsft_partial": 1,
        "model": model,
        "run": text_sha256((run_dir / MANIFEST).read_text(encoding="utf-8")),
        "weights": [] if model == "baseline" else weights,
        "rows": fingerprint(examples),
        "max_new_tokens": manifest.load_recipe().evaluation.max_new_tokens,
    }


def merge(shares: Sequence[dict[int, Decoded]], rows: int) -> list[Decoded]:
    """Return the answers of all rows, in order; raises UserError if the processes did not evaluate the same rows."""
    found: dict[int, Decoded] = {}
    for share in shares:
        found |= share
    if sorted(found) != list(range(rows)):
        raise UserError(
            f"the processes decoded {len(found)} rows, not {rows}; give all of them the same run directory and options"
        )
    return [found[index] for index in range(rows)]


def _decode(
    loaded: LoadedRun,
    examples: Sequence[Example],
    places: Sequence[int],
    batch_size: int,
    processes: Processes,
    *,
    constrained: bool,
) -> Iterator[Decoded]:
    """Yield the answers to the rows at `places` as batches end."""
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
        yield Decoded(
            index=places[index],
            text=answer.text,
            stopped=answer.stopped,
            tokens=answer.tokens,
            seconds=seconds,
            loss=mean_loss(loaded.model, [row]),
            supervised=len(row.input_ids) - row.prompt_length,
        )
        start = time.monotonic()
