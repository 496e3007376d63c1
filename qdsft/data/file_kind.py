"""Recognise files that are no UTF-8 text by their first bytes, and say how to save them."""

from __future__ import annotations

from pathlib import Path

_CSV_UTF8 = 'save it as "CSV UTF-8" (in Excel: File, Save As, CSV UTF-8)'
_UTF16 = 'UTF-16 text, Excel\'s "Unicode Text"'

KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "an Excel or LibreOffice workbook, or another zip file", f"{_CSV_UTF8}, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls), or one with a password", _CSV_UTF8),
    (b"\x1f\x8b", "gzip data whose name does not end in .gz", "add .gz to its name"),
    (b"PAR1", "a Parquet file whose name does not end in .parquet", "rename it"),
    (b"BZh", "bzip2 data", "unpack it; of compressed files only gzip is read"),
    (b"\xfd7zXZ\x00", "xz data", "unpack it; of compressed files only gzip is read"),
    (b"\x28\xb5\x2f\xfd", "zstd data", "unpack it; of compressed files only gzip is read"),
    (b"\xff\xfe", _UTF16, _CSV_UTF8),
    (b"\xfe\xff", _UTF16, _CSV_UTF8),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "run git lfs pull"),
    (b"<!DOCTYPE html", "a web page", "download the raw file"),
    (b"<html", "a web page", f"download the raw file; of a table, {_CSV_UTF8}"),
    (b"<?xml", "an XML file", _CSV_UTF8),
)
"""First bytes, what such a file is, and the remedy."""

_SUFFIXES = {".xlsx", ".xls", ".xlsm", ".ods", ".numbers"}


def foreign_kind(start: bytes, path: Path) -> str | None:
    """Return what a file is and how to save it, or None if it may be text."""
    if not start:
        return None
    for magic, kind, remedy in KINDS:
        if start[: len(magic)].lower() == magic.lower():
            return f"this is {kind}; {remedy}"
    if path.suffix.lower() in _SUFFIXES:
        return f"{path.suffix} files are not read; {_CSV_UTF8}"
    return None


def has_mac_line_ends(start: bytes) -> bool:
    """Return whether the lines of a file end in a carriage return alone, judged by its beginning."""
    return b"\r" in start.rstrip(b"\r") and b"\n" not in start
