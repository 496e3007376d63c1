"""Answers kept beside an output that is not complete yet, so that a killed process can go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from qdsft.console import say
from qdsft.files import disk_errors, lock
from qdsft.runs.kept_lines import read_kept, to_line

_REMEDY = "choose another output"


class AnswerLog:
    """The answers that a log holds, and the file that new ones are appended to."""

    def __init__(self, output: Path, file: IO[bytes], answers: dict[int, dict[str, Any]]) -> None:
        self._output = output
        self._file = file
        self.answers = answers
        """Index of the question -> its answer."""

    def add(self, index: int, answer: dict[str, Any]) -> None:
        """Keep an answer; once this returns, the end of the process does not lose it. Raises UserError if it cannot."""
        self.answers[index] = answer
        with disk_errors(self._output, _REMEDY):
            self._file.write(to_line({"index": index, **answer}))


def log_path(output: Path) -> Path:
    """Where the answers of an unfinished `output` are kept."""
    return output.with_name(f".{output.name}.answers")


@contextmanager
def answer_log(output: Path, identity: dict[str, Any]) -> Iterator[AnswerLog]:
    """The log beside `output`, with the answers of an earlier process that had the same `identity`.

    The first line of the file is the identity: what the answers depend on. A log with another one is discarded,
    which is said; a last line that was cut off is dropped. The file goes when the block ends well, and also when
    it holds no answer. Raises UserError if it cannot be written, or if another process is writing it.
    """
    path = log_path(output)
    with disk_errors(output, _REMEDY):
        output.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    with file:
        lock(file, output, "writing it", _REMEDY)
        with disk_errors(output, _REMEDY):
            log = AnswerLog(output, file, _resume(file, path, identity))
        complete = False
        try:
            yield log
            complete = True
        finally:
            if complete or not log.answers:
                path.unlink(missing_ok=True)


def _resume(file: IO[bytes], path: Path, identity: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The answers in `file`, which is left as long as what of it is usable."""
    file.seek(0)
    content = file.read()
    kept = read_kept(content, identity, lambda value: (value.pop("index"), value))
    if kept is not None:
        answers, usable = dict(kept[0]), kept[1]
        file.truncate(usable)
        say(f"{path}: going on behind {len(answers)} answers")
        return answers
    if content:
        say(f"{path}: {_difference(content.splitlines()[0], identity)}; it is discarded")
    file.truncate(0)
    file.write(to_line(identity))
    return {}


def _difference(first: bytes, identity: dict[str, Any]) -> str:
    try:
        other = json.loads(first)
        changed = [key for key in identity if other.get(key) != identity[key]]
    except (ValueError, AttributeError):
        return "holds no answers of this command"
    return f"holds answers that were made with another {' and '.join(changed) or 'version'}"
