"""Cases of what a user writes or downloads: recipes, templates, data files, and the command line itself."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as arrow
from helpers.corpus.case import Case, Damage, edited, replaced, spoiled, untouched
from pyarrow import parquet

KEYS: dict[str, tuple[Any, ...]] = {
    "model.name_or_path": ("", "./nope", "rows.jsonl", "[1]", "null", "'\\x1b[2J'", "'a\\nb'"),
    "model.revision": ("[1]", "true"),
    "model.dtype": ("float12", "3"),
    "model.chat_template": ("nope.jinja", "[1]", "../recipe.yaml", "part"),
    "model.attn_implementation": ("[1]", "{}"),
    "model.trust_remote_code": ("maybe", "3"),
    "data.train": ("nope.jsonl", "null", "[]", "part", "''", "'~nobody/x'"),
    "data.eval_fraction": ("2", "-1", "nan", "x"),
    "data.max_samples": ("-1", "0", "x", "1e99"),
    "data.overlength": ("explode", "1"),
    "training.max_length": ("0", "-5", "x", "1e300", "999999999999", "[]"),
    "training.learning_rate": ("x", "nan", "inf", "-1", "{}"),
    "training.max_steps": ("0.5", "x", "{}"),
    "training.global_batch_size": ("0", "3", "x"),
    "training.lr_scheduler_type": ("nope", "3"),
    "training.optim": ("nope", "3"),
    "training.output_dir": ("''", "/", ".", "'a\\nb'", "'" + "x" * 5000 + "'", "recipe.yaml"),
    "training.save_strategy": ("sometimes", "3"),
    "lora.r": ("0", "-1", "x", "1.5"),
    "lora.target_modules": ("'('", "3", "{}"),
    "lora.lora_dropout": ("2", "x", "-1"),
    "quantization.load_in_4bit": ("maybe",),
    "evaluation.max_new_tokens": ("0", "x", "-1"),
    "evaluation.batch_size": ("0", "x"),
    "prompt.user": ("'{{ question.a.b.c }}'", "'{% for %}'", "'{{ 1/0 }}'", "3"),
    "seed": ("-1", "x", "1.5", "99999999999999999999"),
    "nope.nope": ("1",),
    "training.learning_rte": ("1",),
}
YAMLS = {
    "tabs": "model:\n\tname_or_path: base\n",
    "a list": "- a\n- b\n",
    "a text": "hello",
    "two keys": "seed: 1\nseed: 2\n",
    "a bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
    "a Python object": "model: !!python/object/apply:os.system ['true']\n",
    "deep": "model: " + "{a: " * 2000,
    "an anchor loop": "model: &a\n  name_or_path: *a\n",
    "unclosed": 'model: {name_or_path: "base',
    "two documents": "seed: 1\n---\nseed: 2\n",
    "control characters": "model: {name_or_path: \x1b]0;x\x07}\n",
    "no data": "model: {name_or_path: base}\n",
}
TEMPLATES: dict[str, bytes | str] = {
    "unclosed": "{% for message in messages %}",
    "unknown tag": "{% nope %}",
    "a loop of 10^12": "{% for i in range(10**12) %}{{ i }}{% endfor %}",
    "a power": "{{ 9 ** 9 ** 9 }}",
    "a division": "{{ 1 // 0 }}",
    "an attribute": "{{ messages.a.b.c }}",
    "an index": "{{ messages[99]['x'] }}",
    "a call": "{{ messages() }}",
    "a sum": "{{ messages + 1 }}",
    "a raise": "{{ raise_exception('no') }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "an import": "{% import 'os' as os %}",
    "a Korean literal": "{{ '서울' }}".encode("cp949"),
    "nothing": "",
    "no messages": "hello",
    "a long text": "{{ 'x' * 10 ** 11 }}",
}
DATA: dict[str, bytes | str] = {
    "scalars.jsonl": '1\n"x"\nnull\n',
    "nan.jsonl": '{"question": NaN, "sub_questions": ["a?"]}\n',
    "types.jsonl": '{"question": 3, "sub_questions": "a"}\n',
    "steps.jsonl": '{"question": "a?", "sub_questions": [1, null]}\n',
    "reference.jsonl": '{"question": "a?", "sub_questions": ["b #7?"]}\n',
    "twice.jsonl": '{"question": "a?", "question": "b?", "sub_questions": ["c?"]}\n',
    "surrogate.jsonl": '{"question": "\\ud800?", "sub_questions": ["c?"]}\n',
    "control.jsonl": '{"question": 1, "\\u001b]0;x\\u0007": "c?"}\n',
    "deep.jsonl": "[" * 50_000 + "\n",
    "digits.jsonl": '{"question": ' + "9" * 5000 + "}\n",
    "open.json": '[{"question": "a?"',
    "text after.json": "[] x",
    "quotes.csv": 'question,sub_questions\n"a,b\n',
    "cells.csv": "question,sub_questions\na,b,c,d\n",
    "semicolons.csv": "question;sub_questions\na;b\n",
    "header.csv": "question,question\na,b\n",
    "nul.csv": "question,sub_questions\n\0,\0\n",
    "mac.csv": "question,sub_questions\ra,b\r",
    "list.csv": 'question,sub_questions\na,"[1,"\n',
    "excel.xlsx": b"PK\x03\x04" + bytes(100),
    "not.gz": b"hello",
    "cut.jsonl.gz": gzip.compress(b'{"question": "a?"}\n' * 99, mtime=0)[:40],
    "page.jsonl": "<!DOCTYPE html><html></html>",
    "not.parquet": b"PAR1" + bytes(64) + b"PAR1",
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "check": ("check", "recipe.yaml", "data.train={}"),
    "data check": ("data", "check", "{}"),
    "data stats": ("data", "stats", "{}"),
    "data convert": ("data", "convert", "--from", "jsonl", "--to", "qdmr", "{}", "out.csv"),
    "evaluate": ("evaluate", "--predictions", "{}", "--gold", "rows.jsonl"),
}
WORDS: tuple[tuple[str, ...], ...] = (
    (),
    ("nope",),
    ("train",),
    ("train", "nope.yaml"),
    ("train", "recipe.yaml", "--nope"),
    ("train", "recipe.yaml", "--resume", "--overwrite"),
    ("train", "recipe.yaml", "a=b=c"),
    ("train", "recipe.yaml", "--accelerate", "nope"),
    ("check", "."),
    ("check", "rows.jsonl"),
    ("check", "x" * 5000),
    ("check", "/dev/null"),
    ("recipe", "\x1b[2J"),
    ("plan", "recipe.yaml", "--gpu-memory", "nan"),
    ("plan", "recipe.yaml", "--gpus", "0"),
    ("plan", "recipe.yaml", "--gpu", "nope"),
    ("decompose",),
    ("decompose", "runs/adapter", " "),
    ("decompose", "runs/adapter", "--output", "x"),
    ("decompose", "runs/adapter", "--input", "nope.txt", "--output", "out"),
    ("decompose", "runs/adapter", "--input", "rows.jsonl", "--output", "rows.jsonl"),
    ("decompose", "nope", "a?"),
    ("decompose", "rows.jsonl", "a?"),
    ("decompose", "runs/" + "x" * 300, "a?"),
    ("merge", "runs/whole", "--output", "out"),
    ("merge", "runs/adapter", "--output", "runs"),
    ("merge", "runs/adapter", "--output", "rows.jsonl"),
    ("push", "runs/adapter", "--repo-id", "no slash"),
    ("push", "part", "--repo-id", "a/b"),
    ("serve", "runs/adapter", "--port", "99999"),
    ("serve", "part"),
    ("demo", "runs/adapter", "--port", "x"),
    ("demo", "nope"),
    ("compare", "part"),
    ("compare", "nope", "nope"),
    ("runs", "nope"),
    ("runs", "rows.jsonl"),
    ("export-gguf", "runs/adapter", "--output", "m.gguf"),
    ("evaluate",),
    ("evaluate", "part"),
    ("evaluate", "runs/whole"),
    ("evaluate", "--gold", "rows.jsonl"),
    ("evaluate", "--predictions", "answers.jsonl", "--gold", "rows.jsonl", "--output", "runs"),
    ("data", "check", "--strict", "nope"),
    ("data", "convert", "--from", "jsonl", "--to", "qdmr", "rows.jsonl", "rows.csv"),
    ("data", "synth", "--rows", "-1", "--output", "x"),
)


def _parquet(column: arrow.Array) -> bytes:
    out = io.BytesIO()
    parquet.write_table(arrow.table({"question": ["a?"] * len(column), "sub_questions": column}), out)
    return out.getvalue()


def parquets() -> dict[str, bytes]:
    """Return Parquet files with values that Python or JSON cannot represent."""
    day = arrow.array([3_000_000], arrow.date32())
    stamp = arrow.array([2**60], arrow.timestamp("ms"))
    text = arrow.Array.from_buffers(arrow.string(), 1, arrow.array([b"\xff"], arrow.binary()).buffers())
    return {
        "a day of the year 10183": _parquet(day),
        "a time beyond the year 9999": _parquet(stamp),
        "nanoseconds": _parquet(arrow.array([1], arrow.timestamp("ns"))),
        "a time zone": _parquet(arrow.array([1], arrow.timestamp("s", tz="Nowhere/None"))),
        "text that is not UTF-8": _parquet(text),
        "durations": _parquet(arrow.array([datetime.timedelta(days=1)])),
        "bytes": _parquet(arrow.array([b"\xff"])),
        "NaN": _parquet(arrow.array([float("nan")])),
    }


def _recipes() -> Iterator[Case]:
    for key, values in KEYS.items():
        for value in values:
            mentions = (key, key.rpartition(".")[2], key.split(".")[0], value)
            yield Case(
                "override", f"{key}={value[:30]}", ("check", "recipe.yaml", f"{key}={value}"), untouched, mentions, None
            )
    for name, text in YAMLS.items():
        yield Case("recipe file", name, ("check", "recipe.yaml"), replaced("recipe.yaml", text), ("recipe.yaml",))
    for name, damage in spoiled("recipe.yaml").items():
        status = None if name == "cut by one byte" else 1
        yield Case("recipe file", name, ("check", "recipe.yaml"), damage, ("recipe.yaml",), status)


def _templates() -> Iterator[Case]:
    for name, text in TEMPLATES.items():
        yield Case(
            "chat template", name, ("inspect", "recipe.yaml"), replaced("template.jinja", text), ("template",), None
        )
    for name, damage in spoiled("template.jinja").items():
        yield Case("chat template", name, ("inspect", "recipe.yaml"), damage, ("template",), None)


def _with(damage: Damage, name: str, file: str) -> Iterator[Case]:
    for command, arguments in COMMANDS.items():
        filled = tuple(argument.format(file) for argument in arguments)
        yield Case("data file", f"{command}: {name}", filled, damage, (file, "rows.jsonl"), None)


def _data() -> Iterator[Case]:
    for name, content in DATA.items():
        yield from _with(replaced(name, content), name, name)
    for name, content in parquets().items():
        yield from _with(replaced("x.parquet", content), name, "x.parquet")
    for name, damage in spoiled("rows.jsonl").items():
        yield from _with(damage, name, "rows.jsonl")
    for kind, file in (("break", "break.csv"), ("musique", "musique.jsonl"), ("strategyqa", "strategyqa.json")):
        command = ("data", "convert", "--from", kind, "--to", "jsonl", file, "out.jsonl")
        for name, damage in spoiled(file).items():
            yield Case("foreign format", f"{kind}: {name}", command, damage, (file,), None)
        quoted = edited(file, lambda content: content.replace(b"a", b'"', 1).replace(b"1", b"{", 1))
        yield Case("foreign format", f"{kind}: stray quotes", command, quoted, (file,), None)


def _long_cell() -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([["question", "sub_questions"], ["a?", json.dumps(["x"] * 20_000)]])
    return out.getvalue().encode()


def input_cases() -> Iterator[Case]:
    """Yield the cases of recipes, templates, data files and arguments."""
    yield from _recipes()
    yield from _templates()
    yield from _data()
    yield from _with(replaced("long.csv", _long_cell()), "20,000 steps in a row", "long.csv")
    for words in WORDS:
        yield Case("arguments", " ".join(words)[:60] or "nothing", words, untouched, (), None)
