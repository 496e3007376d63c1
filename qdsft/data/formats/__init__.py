"""Formats of other projects: each is one module with one `FORMAT`. To add a format, add its module to `MODULES`."""

from __future__ import annotations

from importlib import import_module

from qdsft.data.formats.format import Format, Reader, Writer

MODULES = (
    "jsonl",
    "csv_rows",
    "break_csv",
    "strategyqa",
    "musique",
    "self_ask",
    "llamaindex",
    "qdmr",
    "dag",
    "mermaid",
)

FORMATS: tuple[Format, ...] = tuple(import_module(f"{__name__}.{module}").FORMAT for module in MODULES)
READERS: dict[str, Reader] = {one.name: one.reader for one in FORMATS if one.reader}
"""Format -> how its files are read: what `--from` offers."""
WRITERS: dict[str, Writer] = {one.name: one.writer for one in FORMATS if one.writer}
"""Format -> how it is written: what `--to` offers."""
ANSWER_FORMATS: tuple[str, ...] = tuple(name for name, writer in WRITERS.items() if writer.for_answers)
"""What `qdsft decompose --format` offers besides json and text."""
