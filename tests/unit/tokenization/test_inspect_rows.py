"""Shown rows are complete, with the loss and the special tokens in their places."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT

from qdsft.cli.main import main
from qdsft.model.loading import load_tokenizer
from qdsft.recipe import load_recipe
from qdsft.tokenization.inspect_rows import histogram, show_row
from qdsft.tokenization.rows import Row

TinyModel = Callable[[str], Path]


@pytest.mark.parametrize(("folder", "architecture"), [("tiny/full", "llama"), ("koalpaca/qlora_8gb", "gpt_neox")])
def test_a_row_is_shown_whole_with_its_answer_apart(folder: str, architecture: str, tiny_model: TinyModel) -> None:
    recipe = load_recipe(ROOT / f"recipes/{folder}.yaml", [f"model.name_or_path={tiny_model(architecture)}"])
    tokenizer = load_tokenizer(recipe)
    messages = [{"role": "user", "content": "퀭한 사람은 누구인가요?"}]
    answer = "1. 누가 있나요?\n2. #1은 퀭한가요?"
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], tokenize=False)
    ids, length = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (whole, prompt))
    row = Row(ids, len(length))
    lines = list(show_row(row, tokenizer, [tokenizer.eos_token_id], colour=False))
    assert [line[:10].split()[0] for line in lines] == ["no", "loss"]
    bare = re.sub(r"\[(BOS|STOP) ([^\]]+)\]", r"\2", "".join(line[10:] for line in lines)).replace("│", "")
    assert bare.replace("\\n", "\n").replace(" ", "") == whole.replace(" ", "")
    assert lines[1].endswith(f"[STOP {tokenizer.eos_token}]") and "STOP" not in lines[0]
    assert ("[BOS" in lines[0]) == (architecture == "llama")
    assert lines[1].count("│") >= 5
    coloured = "".join(show_row(row, tokenizer, [tokenizer.eos_token_id], colour=True))
    assert re.sub(r"\033\[\d+m(STOP |BOS )?", "", coloured).replace(" ", "") == whole.replace(" ", "")
    assert coloured.endswith(f"\033[7mSTOP {tokenizer.eos_token}\033[0m")
    assert coloured.index("\033[32m") > coloured.rindex("\033[2m")


def test_the_histogram_counts_every_row() -> None:
    lengths = np.array([3, 3, 40, 41, 120])
    lines = list(histogram(lengths))[1:]
    assert lines[0].count("#") == 40
    counted = 0
    for line in lines:
        first, last, count = map(int, re.findall(r"\d+", line))
        assert count == ((lengths >= first) & (lengths <= last)).sum()
        counted += count
    assert counted == 5


def test_inspect_from_the_command_line(
    tiny_model: TinyModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    data = ["data.train=data/examples/sample_train.jsonl", "data.eval=data/examples/sample_eval.jsonl"]
    model = f"model.name_or_path={tiny_model('llama')}"
    command = ["inspect", "recipes/tiny/full.yaml", model, *data, "training.packing=true", "-n", "2"]
    assert main(command) == 0
    out, error = capsys.readouterr()
    assert "it/s" not in error and "examples/s" not in error, "no progress bar for a moment's work"
    assert out.count(" with loss\n") == 2 and "data/examples/sample_train.jsonl:1: " in out
    assert "96 rows to train on, 16 held out" in out and "% supervised" in out and "% full" in out
    assert "\033" not in out
    assert main([*command, "training.max_length=80"]) == 1
    error = capsys.readouterr().err
    assert "more than training.max_length 80 (" in error and len(error.splitlines()) == 1
    assert main([*command, "training.max_length=80", "data.overlength=drop"]) == 0
    assert re.search(r"training: over 80 tokens: \d+ rows dropped, 0 rows shortened", capsys.readouterr().out)
