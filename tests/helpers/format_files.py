"""Files of other projects' formats, read back as rows, and one decomposition to write in each format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats import READERS
from qdsft.data.record import Record, RowError

QUESTION = "Did Ada outlive Bob?"
STEPS = Decomposition(("When did Ada die?", "When did Bob die?", "Is #1 after #2?"))
RELATIONS = Decomposition(("Mount Ida >> country", "#1 >> capital"))


def found(source_format: str, path: Path, content: Any) -> list[Record | RowError]:
    """Write a file and return what the reader of a format yields; `content` is text, or is written as JSON."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return list(READERS[source_format].read(path))


def the_row(source_format: str, path: Path, content: Any) -> dict[str, Any]:
    """Return the only row of such a file."""
    [record] = found(source_format, path, content)
    assert isinstance(record, Record), record
    return record.row
