"""No input gives anything but a result or a UserError.

The examples are the same each time. `QDSFT_FUZZ=5000 pytest tests/fuzz/test_fuzz.py` looks at other ones, that
many for each test.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from helpers.paths import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from qdsft.cli.main import main
from qdsft.data.formats import READERS
from qdsft.data.readers import scan
from qdsft.data.record import Record
from qdsft.data.task import task_of
from qdsft.errors import UserError
from qdsft.recipe import load_recipe, strict_yaml
from qdsft.recipe.sections import Prompt

EXAMPLES = int(os.environ.get("QDSFT_FUZZ", "60"))
fuzz = settings(
    max_examples=EXAMPLES,
    derandomize="QDSFT_FUZZ" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
pytestmark = pytest.mark.timeout(0 if "QDSFT_FUZZ" in os.environ else 300)

ROWS: list[dict[str, Any]] = [
    {"question": "Who, if any?", "sub_questions": ["A?", "Is #1 B?"], "n": 1.5},
    {"question": '누가\n"그"를?', "sub_questions": ["누구, 언제?", "#1은?"], "n": -3},
]
MUSIQUE = {"question": "a?", "question_decomposition": [{"id": 1, "question": "b >> c", "answer": "d"}]}


def _parquet() -> bytes:
    out = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(ROWS), out)
    return out.getvalue()


LINES = "".join(json.dumps(row, ensure_ascii=bool(number)) + "\r\n" for number, row in enumerate(ROWS)).encode()
TABLE = b'question,sub_questions,n\n"a, ""b""?","[""c?"", ""#1""]",1\nd?,"e\nf #1",\n'
BREAK = b"question_id,question_text,decomposition\n1,a b,return a ;return #1 b\n2,c,return c #REF\n"
SEEDS = {
    "d.jsonl": LINES,
    "d.json": json.dumps(ROWS, indent=1).encode(),
    "d.csv": TABLE,
    "d.tsv": TABLE.replace(b",", b"\t"),
    "d.parquet": _parquet(),
    "d.jsonl.gz": gzip.compress(LINES, mtime=0),
    "d.csv.gz": gzip.compress(TABLE, mtime=0),
    "break.csv": BREAK,
    "strategyqa.json": json.dumps([{"qid": 1, "question": "a?", "decomposition": ["b?", "#1"]}]).encode(),
    "musique.jsonl": json.dumps(MUSIQUE).encode(),
}
FORMATS = {"break.csv": "break", "strategyqa.json": "strategyqa", "musique.jsonl": "musique"}
TOKENS = [
    b"\x00",
    b"\xff",
    b'"',
    b"\\",
    b"[",
    b"{",
    b"]",
    b"}",
    b",",
    b":",
    b"#0",
    b"#99999999999",
    b"\n",
    b"\r",
    b"\t",
]
TOKENS += [
    b"NaN",
    b"1e999",
    b"null",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    "한？".encode(),
    b"(" * 50,
    b"[" * 3000,
]
TOKENS += [
    b"- ",
    b"? ",
    b"&a ",
    b"*a",
    b"!!python/object ",
    b"|",
    b">",
    b"'",
    b"{{",
    b"{% ",
    b"}}",
    b"<<: ",
    b"---\n",
    b"9" * 5000,
]


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """`seed` with a few cuts, insertions, repetitions and changed bytes."""
    data = seed
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + draw(st.sampled_from([0, 1, 4, 40, 4000])))))
        new = draw(
            st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8), st.just(data[start:end] * 2), st.just(b""))
        )
        data = data[:start] + new + data[end:]
    return data


def anything(seed: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(mutated(seed), st.binary(max_size=200))


@contextlib.contextmanager
def file_of(name: str, content: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


def run(*arguments: str) -> tuple[int, str]:
    """(status, standard output) of a command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        status = main(arguments)
    return status, out.getvalue()


@pytest.mark.parametrize("name", SEEDS)
@fuzz
@given(data=st.data())
def test_files(name: str, data: st.DataObject) -> None:
    content = data.draw(anything(SEEDS[name]))
    source_format = FORMATS.get(name, "jsonl")
    with file_of(name, content) as path:
        for read in {scan, READERS[source_format].read}:
            with contextlib.suppress(UserError):
                assert all(isinstance(row, Record | UserError) for row in read(path))
        clean = path.with_name("clean.jsonl")
        command = ("data", "check", "--from", source_format, str(path))
        status, text = run(*command, "--json", "--eval", str(path), "--write-clean", str(clean))
        report = json.loads(text)
        # (Parquet may hold what JSON has no form for, which ends the writing.)
        assert status == (1 if report["counts"]["error"] or not clean.exists() else 0)
        assert run(*command)[0] == int(bool(report["counts"]["error"]))
        assert run("data", "stats", "--from", source_format, str(path))[0] in {0, 1}


text = st.text(st.one_of(st.characters(codec=None), st.sampled_from("#1?？\n (\"'aA한")), max_size=30)
value: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)
row = st.one_of(
    value,
    st.fixed_dictionaries({"question": text, "sub_questions": st.lists(text, max_size=5)}),
    st.fixed_dictionaries({"question": value, "sub_questions": value}, optional={"x": value}),
)


@fuzz
@given(rows=st.lists(row, max_size=5), ascii_only=st.booleans())
def test_rows_and_what_is_kept_of_them_can_be_trained_on(rows: list[Any], ascii_only: bool) -> None:
    rows = [ROWS[0], *rows]  # a file that begins with a list is one JSON list
    lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode("utf-8", "surrogatepass")
    with file_of("d.jsonl", lines) as path:
        clean = path.with_name("clean.jsonl")
        status, text = run("data", "check", str(path), "--json", "--write-clean", str(clean))
        report = json.loads(text)
        assert report["rows"]["total"] == len(rows)
        kept = report["rows"]["total"] - report["rows"]["unusable"]
        assert clean.exists() == bool(kept) and (status == 1 or kept == len(rows))
        if kept:
            task = task_of(Prompt())
            records = [record for record in scan(clean) if isinstance(record, Record)]
            assert all(task.messages(record) and task.completion(record) for record in records)
            assert len(records) == kept


def _gives_a_result_or_a_user_error(call: Callable[[], object]) -> None:
    with contextlib.suppress(UserError):
        call()


RECIPES = {path.stem: path.read_bytes() for path in sorted(ROOT.glob("recipes/*/*.yaml"))[:6]}


@fuzz
@given(content=st.one_of(*map(anything, RECIPES.values())))
def test_recipes(content: bytes) -> None:
    _gives_a_result_or_a_user_error(lambda: strict_yaml.load(content.decode("utf-8", "replace"), "r.yaml"))
    _gives_a_result_or_a_user_error(lambda: strict_yaml.load(content.decode("latin-1"), "r.yaml"))
    with file_of("r.yaml", content) as path:
        _gives_a_result_or_a_user_error(lambda: load_recipe(path))


@fuzz
@given(
    override=st.one_of(text, st.tuples(st.sampled_from(["training.x", "data.train", "lora.r", "seed", "a.b.c"]), text))
)
def test_overrides(override: str | tuple[str, str]) -> None:
    recipe = ROOT / "recipes/tiny/full.yaml"
    written = override if isinstance(override, str) else "=".join(override)
    _gives_a_result_or_a_user_error(lambda: load_recipe(recipe, [written]))
    _gives_a_result_or_a_user_error(lambda: strict_yaml.load(written, "x"))
