"""Reading other projects' data formats, and converting their files to rows for training."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.decomposition import Decomposition
from qdsft.errors import UserError


@dataclass(frozen=True)
class ConvertReport:
    """What became of the rows of a converted file; every row is either written or dropped."""

    written: int
    dropped: tuple[str, ...]
    """One line for each row that was left out: `file: row number: why`."""


def break_steps(text: str) -> list[str]:
    """The steps of a BREAK decomposition string, as BREAK's official evaluator parses it.

    White space is collapsed, the string split at ";", and from every stripped part each occurrence of
    "return" is deleted, inside words too: "return x" gives " x" with its leading space, "returned"
    gives "ed". References stay `#n`; `metrics.string_form` writes them as `@@n@@`.
    """
    parts = " ".join(text.split()).split(";")
    return [part.strip().replace("return", "") for part in parts]


def read_strategyqa(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a StrategyQA file (a JSON list) as `question` and `sub_questions`, otherwise as found.

    Raises UserError, naming the file and the line or row, for a file that cannot be read, is not UTF-8,
    not JSON or not a list, and for a row that is not an object or lacks `question` or `decomposition`.
    """
    for number, row in enumerate(_json_list(path), start=1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: a row must be an object with fields, not {_show(row)}")
        for name in ("question", "decomposition"):
            if name not in row:
                raise UserError(f"{where}: the field {name!r} is missing; add it or remove the row")
        yield {"question": row["question"], "sub_questions": row["decomposition"]}


READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {"strategyqa": read_strategyqa}
"""Source format -> its reader; readers yield every row, in order."""


def convert(source_format: str, target_format: str, source: Path, target: Path) -> ConvertReport:
    """Write the rows of `source` to `target`, one JSON object with `question` and `sub_questions` a line.

    White space inside questions and steps becomes single spaces. Rows that could not be trained on (an
    empty question, something that is not text, a fault named by `Decomposition.problems`) are left out
    and named in the report. `target` appears only once it is complete.

    Raises UserError for an unknown format, a `target` that exists, what the reader of the source format
    refuses, and a file or folder that cannot be read or written.
    """
    if source_format not in READERS:
        raise UserError(f"there is no source format {source_format!r}; choose one of: {', '.join(READERS)}")
    if target_format != "jsonl":
        raise UserError(f"there is no target format {target_format!r}; choose one of: jsonl")
    if os.path.lexists(target):
        raise UserError(f"{target} exists; delete it or choose another name")
    kept: list[dict[str, Any]] = []
    dropped: list[str] = []
    for number, found in enumerate(READERS[source_format](source), start=1):
        row = {name: _collapse(value) for name, value in found.items()}
        if problems := _row_problems(row):
            dropped.append(f"{source}: row {number}: {'; '.join(problems)}")
        else:
            kept.append(row)
    try:
        _write_lines(kept, target)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{target}: {reason}; choose a target that can be written") from error
    return ConvertReport(len(kept), tuple(dropped))


def _row_problems(row: dict[str, Any]) -> list[str]:
    question, steps = row["question"], row["sub_questions"]
    problems = []
    if not isinstance(question, str):
        problems.append(f"the question is not text but {_show(question)}")
    elif not question:
        problems.append("the question is empty")
    if not isinstance(steps, list):
        problems.append(f"the sub-questions are not a list but {_show(steps)}")
    elif strange := [number for number, step in enumerate(steps, start=1) if not isinstance(step, str)]:
        problems.append(f"step {strange[0]} is not text but {_show(steps[strange[0] - 1])}")
    else:
        problems.extend(Decomposition(tuple(steps)).problems())
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        problems.append("half of a surrogate pair (\\ud800-\\udfff) stands in a text")
    return problems


def _collapse(value: Any) -> Any:
    if isinstance(value, list):
        return [_collapse(item) if isinstance(item, str) else item for item in value]
    return " ".join(value.split()) if isinstance(value, str) else value


def _write_lines(rows: Iterable[dict[str, Any]], target: Path) -> None:
    """Write to a temporary name beside `target`, then rename: a file cut short never bears its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _json_list(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; correct the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"{path}: line {error.lineno} column {error.colno}"
        raise UserError(f"{where}: not JSON: {error.msg}; correct the file or download it again") from error
    except (RecursionError, ValueError) as error:
        raise UserError(f"{path}: JSON that cannot be read: {error}; correct the file") from error
    if not isinstance(content, list):
        raise UserError(f"{path}: the file must be a JSON list of rows, not {_show(content)}")
    return content


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
