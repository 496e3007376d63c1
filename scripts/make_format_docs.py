"""Regenerate the two tables of docs/FORMATS.md from qdsft/data/formats.

python scripts/make_format_docs.py            write the page
python scripts/make_format_docs.py --check    exit 1 if the committed page differs
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from qdsft.data.formats import READERS, WRITERS

PAGE = PATH = Path(__file__).parent.parent / "docs" / "FORMATS.md"
"""The page that is read, and the page that is written or compared."""


def build() -> str:
    """Return the page with new tables."""
    page = PAGE.read_text(encoding="utf-8")
    sources = [(f"`{name}`", reader.file, reader.steps, reader.columns) for name, reader in READERS.items()]
    targets = [
        (f"`{name}`", writer.holds, "always phrases" if writer.self_contained else "kept", writer.columns, writer.loses)
        for name, writer in WRITERS.items()
    ]
    page = _replace(page, [("`--from`", "file", "steps", "other columns"), *sources])
    return _replace(page, [("`--to`", "a file holds", "references", "other columns", "lost"), *targets])


def _replace(page: str, rows: list[tuple[str, ...]]) -> str:
    """Replace the table that begins with the first cell of the header."""
    head, *body = rows
    lines = [head, ("---",) * len(head), *body]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    start = page.index(f"| {head[0]} |")
    end = re.compile(r"^(?!\|)", re.MULTILINE).search(page, start)
    return page[:start] + table + (page[end.start() :] if end else "")


def main() -> int:
    text = build()
    if "--check" in sys.argv[1:]:
        same = PATH.is_file() and PATH.read_text(encoding="utf-8") == text
        print(f"{PATH.name} is {'up to date' if same else 'out of date: run python scripts/make_format_docs.py'}")
        return 0 if same else 1
    PATH.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
