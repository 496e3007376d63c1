"""Prepared data equal those of SFTTrainer, are cached, and are prepared again when anything changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from helpers.paths import ROOT
from helpers.preparation import prepare_recipe, tiny_recipe
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from qdsft.data.checks import summary
from qdsft.data.examples import Example
from qdsft.data.split import stream_split
from qdsft.errors import UserError
from qdsft.model.loading import load_tokenizer
from qdsft.recipe import Recipe, load_recipe
from qdsft.tokenization import prepared
from qdsft.tokenization.prepared import cache_folder, prepare
from qdsft.tokenization.rows import IGNORED

RECIPES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("recipes/**/*.yaml")
    if path.stem == "qlora_8gb" or not path.with_stem("qlora_8gb").exists()
)
"""The methods of a model tokenize alike, so one of them is enough."""
TinyModel = Callable[[str], Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # recipes name their data from there
    monkeypatch.setenv("QDSFT_CACHE", str(tmp_path / "cache"))


def rows_of(data: Dataset | None) -> list[tuple[list[int], list[int]]]:
    """Return every sample as (ids, labels), from packed rows too."""
    found = []
    for row in data or []:
        start = 0
        for length in row.get("seq_lengths") or [len(row["input_ids"])]:
            end = start + length
            found.append((row["input_ids"][start:end], row["labels"][start:end]))
            start = end
        assert start == len(row["input_ids"])
    return found


def prepare_with_trl(recipe: Recipe, examples: list[Example], tmp_path: Path, *, packing: bool) -> Dataset:
    """Return the same conversations as SFTTrainer prepares them."""
    rows = [
        {"prompt": list(e.messages), "completion": [{"role": "assistant", "content": e.completion}]} for e in examples
    ]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(recipe.model.name_or_path),
        args=SFTConfig(
            output_dir=str(tmp_path / "trl"),
            use_cpu=True,
            bf16=False,
            packing=packing,
            max_length=recipe.max_length,
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(recipe),
    )
    return trainer.train_dataset


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES)
def test_ids_and_labels_are_those_of_sfttrainer(path: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    recipe = tiny_recipe(path, tiny_model, "training.packing=false")
    ours = prepare_recipe(recipe)
    sides: dict[str, list[Example]] = {"train": [], "eval": []}
    for side, example in stream_split(recipe):
        sides[side].append(example)
    for side, data in (("train", ours.train), ("eval", ours.eval)):
        theirs = rows_of(prepare_with_trl(recipe, sides[side], tmp_path, packing=False))
        assert len(theirs) == len(sides[side]) > 0
        assert rows_of(data) == theirs
        assert all(any(label != IGNORED for label in labels) for _, labels in theirs)


@pytest.mark.parametrize("path", ["recipes/koalpaca/qlora_8gb.yaml", "recipes/tiny/full.yaml"])
def test_packed_rows_hold_the_same_samples(path: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    recipe = tiny_recipe(path, tiny_model, "training.packing=true", "training.max_length=700")
    ours = prepare_recipe(recipe)
    single = prepare_recipe(load_recipe(path, [*_overrides(recipe), "training.packing=false"]))
    theirs = prepare_with_trl(
        recipe, [e for side, e in stream_split(recipe) if side == "train"], tmp_path, packing=True
    )
    assert sorted(rows_of(ours.train)) == sorted(rows_of(single.train)) == sorted(rows_of(theirs))
    assert max(len(row) for row in ours.train["input_ids"]) <= 700
    assert len(ours.train) <= len(theirs)
    packing = ours.facts.tokens.packing
    assert packing and packing.rows == len(ours.train)
    tokens = sum(len(ids) for ids, _ in rows_of(single.train))
    assert packing.efficiency == pytest.approx(tokens / (len(ours.train) * 700), abs=1e-4)
    assert ours.facts.tokens.tokens == tokens
    assert sorted(rows_of(ours.eval)) == sorted(rows_of(single.eval))


def _overrides(recipe: Recipe) -> list[str]:
    return [f"{key}={value}" for key, value, origin in recipe.rows() if origin == "command line"]


def test_facts_are_those_of_the_rows(tiny_model: TinyModel) -> None:
    recipe = tiny_recipe("recipes/tiny/full.yaml", tiny_model, "training.packing=false")
    made = prepare_recipe(recipe)
    examples = [example for _, example in stream_split(recipe)]
    assert made.facts.data.train_rows == len(made.train) == made.facts.tokens.rows
    assert made.eval is not None
    assert made.facts.data.eval_rows == len(made.eval) == made.facts.eval_tokens.rows
    ids = [ids for ids, _ in rows_of(made.train)]
    assert (made.facts.tokens.shortest, made.facts.tokens.longest) == (min(map(len, ids)), max(map(len, ids)))
    lines = made.eval_rows.read_text(encoding="utf-8").splitlines()
    held_out = [example for example in examples if example.record.source.startswith("data/examples/sample_eval")]
    assert lines == [example.to_json() for example in held_out]
    first = made.facts.golden_prompts[0]
    assert len(made.facts.golden_prompts) == 3
    assert ids[0][: len(first.ids)] == first.ids
    assert rows_of(made.train)[0][1][: len(first.ids)] == [IGNORED] * len(first.ids)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A list that grows by one whenever data are prepared instead of read."""
    calls: list[str] = []
    make = prepared._make

    def counted(*arguments: Any) -> None:
        calls.append("made")
        make(*arguments)

    monkeypatch.setattr(prepared, "_make", counted)
    yield calls


def test_the_cache_is_used_when_nothing_changed(tiny_model: TinyModel, made: list[str], tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    shutil.copy("data/examples/sample_train.jsonl", source)
    options = (f"data.train={source}", "data.eval=null")
    first = prepare_recipe(tiny_recipe("recipes/tiny/full.yaml", tiny_model, *options))
    again = prepare_recipe(
        tiny_recipe("recipes/tiny/full.yaml", tiny_model, *options, "training.learning_rate=1", "seed=7")
    )
    shutil.copy(source, tmp_path / "moved.jsonl")
    moved = prepare_recipe(
        tiny_recipe("recipes/tiny/full.yaml", tiny_model, f"data.train={tmp_path}/moved.jsonl", options[1])
    )
    assert made == ["made"]
    assert first.folder == again.folder == moved.folder
    assert rows_of(first.train) == rows_of(again.train)
    assert [path.name for path in cache_folder().iterdir()] == [first.folder.name]


@pytest.mark.parametrize(
    "change",
    [
        "training.max_length=600",
        "training.packing=true",
        "data.eval_fraction=0.3",
        "data.max_samples=20",
        "data.overlength=drop",
        "data.eval=data/examples/sample_eval.jsonl",
        "prompt.system=Otherwise.",
        "model.chat_template=../llama2/chat_template.jinja",
    ],
)
def test_every_setting_that_changes_rows_prepares_them_again(
    tiny_model: TinyModel, made: list[str], change: str
) -> None:
    path = "recipes/tiny/full.yaml"
    first = prepare_recipe(tiny_recipe(path, tiny_model, "data.eval=null"))
    second = prepare_recipe(tiny_recipe(path, tiny_model, "data.eval=null", change))
    assert made == ["made", "made"]
    assert first.folder != second.folder


def test_a_changed_file_or_tokenizer_prepares_the_rows_again(
    tiny_model: TinyModel, made: list[str], tmp_path: Path
) -> None:
    source = tmp_path / "rows.jsonl"
    shutil.copy("data/examples/sample_train.jsonl", source)
    prepare_recipe(tiny_recipe("recipes/tiny/full.yaml", tiny_model, f"data.train={source}"))
    stamp = source.stat()
    source.write_text(source.read_text(encoding="utf-8").replace("?", "!", 1), encoding="utf-8")
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # only the content counts
    recipe = tiny_recipe("recipes/tiny/full.yaml", tiny_model, f"data.train={source}")
    prepare_recipe(recipe)
    assert made == ["made"] * 2
    tokenizer = load_tokenizer(recipe)
    tokenizer.add_tokens(["Seoul"])
    prepare(recipe, tokenizer, [2])
    assert made == ["made"] * 3


FILES = ("facts.json", "train.arrow", "eval.arrow", "eval.jsonl")


@pytest.mark.parametrize(
    ("name", "loss"), [*((name, "gone") for name in FILES), *((name, "cut") for name in FILES if name != "eval.jsonl")]
)
def test_damaged_data_are_prepared_again(tiny_model: TinyModel, made: list[str], name: str, loss: str) -> None:
    recipe = tiny_recipe("recipes/tiny/full.yaml", tiny_model)
    first = prepare_recipe(recipe)
    rows, held_out = rows_of(first.train), first.eval_rows.read_bytes()
    damaged = first.folder / name
    if loss == "gone":
        damaged.unlink()
    else:
        os.truncate(damaged, damaged.stat().st_size // 2)
    for _ in range(2):
        second = prepare_recipe(recipe)
        assert made == ["made"] * 2
        assert (rows_of(second.train), second.eval_rows.read_bytes()) == (rows, held_out)
    (second.folder / name).unlink()
    with pytest.raises(UserError, match=r"damaged, and so is its replacement \w+-1; delete both"):
        prepare_recipe(recipe)


@pytest.mark.slow
def test_processes_that_prepare_at_once_all_get_the_same(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Processes of several machines do this: none may remove data that another has just prepared."""
    recipe = tiny_recipe("recipes/tiny/full.yaml", tiny_model)
    script = (
        "import os, sys, time, pathlib\n"
        "from helpers.preparation import prepare_recipe, tiny_recipe\n"
        "recipe = tiny_recipe('recipes/tiny/full.yaml', lambda _: pathlib.Path(sys.argv[1]))\n"
        "open(sys.argv[2], 'w').close()\n"
        "while len(os.listdir(os.path.dirname(sys.argv[2]))) < 3: time.sleep(0.001)\n"
        "print(prepare_recipe(recipe).folder, len(prepare_recipe(recipe).train))\n"
    )
    (tmp_path / "ready").mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "HF_HUB_OFFLINE": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, recipe.model.name_or_path, str(tmp_path / "ready" / str(n))],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    said = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1
    assert len(list(cache_folder().iterdir())) == 1


@pytest.mark.parametrize(("value", "during", "after"), [(None, "true", "false"), ("false",) * 3, ("true",) * 3])
def test_the_tokenizer_has_threads_only_while_rows_are_prepared(
    value: str | None, during: str, after: str, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "TOKENIZERS_PARALLELISM"
    monkeypatch.setenv(name, value or "")
    if value is None:
        monkeypatch.delenv(name)
    seen: list[str | None] = []
    make = prepared._make

    def watched(*arguments: Any) -> None:
        seen.append(os.environ.get(name))
        make(*arguments)

    monkeypatch.setattr(prepared, "_make", watched)
    for _ in range(2):  # made, then read from the cache
        prepare_recipe(tiny_recipe("recipes/tiny/full.yaml", tiny_model))
        assert (seen, os.environ[name]) == ([during], after)
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)


def test_a_failure_leaves_nothing(tiny_model: TinyModel) -> None:
    recipe = tiny_recipe("recipes/tiny/full.yaml", tiny_model, "training.max_length=80", "training.packing=false")
    with pytest.raises(UserError, match="rows are too long"):
        prepare_recipe(recipe)
    assert list(cache_folder().iterdir()) == []
    with pytest.raises(UserError, match="every training row was dropped"):
        prepare_recipe(
            tiny_recipe("recipes/tiny/full.yaml", tiny_model, "training.max_length=10", "data.overlength=drop")
        )
    assert list(cache_folder().iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_line(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDSFT_CACHE", "/proc/qdsft")
    with pytest.raises(UserError, match=r"^/proc/qdsft/\w+: cannot be written: .*; free some space or set QDSFT_CACHE"):
        prepare_recipe(tiny_recipe("recipes/tiny/full.yaml", tiny_model))


def test_another_process_may_be_faster(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_recipe("recipes/tiny/full.yaml", tiny_model)
    make = prepared._make

    def overtaken(recipe: Recipe, tokenizer: Any, stops: Any, folder: Path) -> None:
        make(recipe, tokenizer, stops, folder)
        final = cache_folder() / folder.name
        if not final.exists():
            shutil.copytree(folder, final)

    monkeypatch.setattr(prepared, "_make", overtaken)
    assert len(prepare_recipe(recipe).train) > 0
    assert len(list(cache_folder().iterdir())) == 1


def write_rows(path: Path, *steps: str) -> str:
    """Write a row for each answer of one step, and return the override that trains on them."""
    rows = ({"question": f"Is {n} more than {n * 7}?", "sub_questions": [step]} for n, step in enumerate(steps))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"data.train={path}"


def test_batches_are_written_in_order_and_the_files_are_read_once(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "BATCH", 3)
    monkeypatch.setattr(summary, "check_files", None)  # would read them again
    data = write_rows(tmp_path / "d.jsonl", *(f"What is {n}?" for n in range(20)))
    options = (data, "data.eval=null", "data.eval_fraction=0.4", "training.packing=false")
    recipe = tiny_recipe("recipes/tiny/full.yaml", tiny_model, *options)
    made = prepare_recipe(recipe)
    monkeypatch.setattr(prepared, "BATCH", 1000)
    monkeypatch.setattr(prepared, "CACHE_VERSION", -1)
    whole = prepare_recipe(recipe)
    assert whole.folder != made.folder and whole.facts == made.facts
    assert (made.facts.findings or "").startswith("data check: 20 warnings (20 one step only); list them with")
    for one, other in ((made.train, whole.train), (made.eval, whole.eval)):
        assert rows_of(one) == rows_of(other) != []
    assert made.eval_rows.read_text() == whole.eval_rows.read_text()


@pytest.mark.parametrize("bad", [0, 4, 9])
def test_an_error_of_the_tokenizer_thread_stops_the_preparation(
    bad: int, tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "BATCH", 2)
    template = tmp_path / "t.jinja"
    template.write_text(
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' and 'odd' not in m.content %}"
        "{{ eos_token }}{% endif %}{% endfor %}",
        encoding="utf-8",
    )
    data = write_rows(tmp_path / "d.jsonl", *("odd?" if n == bad else "even?" for n in range(10)))
    options = (data, "data.eval=null", "data.eval_fraction=0", f"model.chat_template={template}")
    with pytest.raises(UserError, match=rf"d\.jsonl:{bad + 1}: the answer ends in .* where generation does not stop"):
        prepare_recipe(tiny_recipe("recipes/tiny/full.yaml", tiny_model, *options))
    assert list(cache_folder().iterdir()) == []


def test_a_bad_row_is_named_after_the_counts_of_all(
    tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "d.jsonl", "A?", "#7?", "#8?", "B?")
    with pytest.raises(UserError, match=r"d\.jsonl:2: sub_questions: step 1 refers to #7"):
        prepare_recipe(tiny_recipe("recipes/tiny/full.yaml", tiny_model, data, "data.eval=null"))
    assert "data check: 2 errors (2 dangling reference), 4 warnings (4 one step only)" in capsys.readouterr().err


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "BATCH", 200)
    # It remembers up to a million questions, to find repeated ones.
    monkeypatch.setattr(summary.RunningCheck, "add", lambda check, side, example: None)
    peaks = []
    for rows in (1_000, 5_000):
        source = tmp_path / f"{rows}.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for n in range(rows):
                file.write(json.dumps({"question": f"Is {n} more than {n * 7}?", "sub_questions": [f"What is {n}?"]}))
                file.write("\n")
        recipe = tiny_recipe("recipes/tiny/full.yaml", tiny_model, f"data.train={source}", "training.packing=false")
        tracemalloc.start()
        prepare_recipe(recipe)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_a_mix_is_prepared_the_same_each_time_and_again_for_another_weight(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = "{path: data/examples/sample_train.jsonl, weight: %s}, {path: data/examples/sample_eval.jsonl}"

    def prepared_mix(weight: int) -> Any:
        options = (f"data.train=[{files % weight}]", "data.eval=null", "training.packing=false")
        return prepare_recipe(tiny_recipe("recipes/tiny/full.yaml", tiny_model, *options))

    first = prepared_mix(9)
    assert first.train.num_rows == first.facts.data.train_rows > 96
    assert set(first.facts.data.train_sources) == {"sample_train.jsonl", "sample_eval.jsonl"}
    monkeypatch.setenv("QDSFT_CACHE", str(tmp_path / "another"))  # as on another machine, or after a deleted cache
    again, other = prepared_mix(9), prepared_mix(1)
    assert rows_of(first.train) == rows_of(again.train) and first.facts == again.facts
    assert other.folder != again.folder and len(rows_of(other.train)) != len(rows_of(again.train))
