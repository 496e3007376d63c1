"""Several adapters on one base model: each answers as it does alone."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.tiny_run import GOLDEN, make_run
from safetensors.torch import load_file, save_file

from qdsft.cli.main import main
from qdsft.data.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.inference.decomposer import Decomposer
from qdsft.runs.manifest import read_manifest, write_manifest

TINY = Callable[[str], Path]


@pytest.fixture(scope="module")
def runs(tiny_model: TINY, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    first = make_run(folder / "first", tiny_model("mistral"), "tiny/full", "lora.r=4", lora_scale=0.1)
    second = make_run(
        folder / "second",
        tiny_model("mistral"),
        "tiny/full",
        "lora.r=4",
        "prompt.user=Q: {{ question }}",
        lora_scale=0.1,
    )
    path = second / "adapter" / "adapter_model.safetensors"
    weights = {name: tensor.roll(1, 0) for name, tensor in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    return first, second


def test_each_answers_as_alone(runs: tuple[Path, Path]) -> None:
    first, second = runs
    alone = [[Decomposer(run).text(question) for question in GOLDEN] for run in runs]
    assert alone[0] != alone[1]
    both = Decomposer(first)
    both.add_adapter("other", second)
    for question, one, other in zip(GOLDEN, *alone, strict=True):
        assert both.text(question) == one
        assert both.text(question, adapter="other") == other
        assert both.text(question) == one
    asked = [(question, adapter) for question in GOLDEN for adapter in (None, "other")] * 3
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: both.text(one[0], adapter=one[1]), asked))
    assert found == [answers[i] for i in range(len(GOLDEN)) for answers in alone] * 3
    assert both(GOLDEN[0], adapter="other").steps == Decomposer(second)(GOLDEN[0]).steps
    assert sum(parameter.numel() for name, parameter in both.run.model.named_parameters() if "embed" in name) == (
        both.run.model.get_input_embeddings().weight.numel()
    )
    with pytest.raises(UserError, match=r"no adapter 'third' \(other\); add it with add_adapter"):
        both.text(GOLDEN[0], adapter="third")


def test_typed_questions_name_their_adapter(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = runs
    alone = [Decomposer(run).text(GOLDEN[0]) for run in runs]
    lines = f"{GOLDEN[0]}\n@second {GOLDEN[0]}\n@second\n@third {GOLDEN[0]}\n{GOLDEN[0]}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    capsys.readouterr()
    assert main(["decompose", str(first), "--adapter", str(second), "--json"]) == 0
    out, err = capsys.readouterr()
    answered = [json.loads(line) for line in out.splitlines()]
    asked = [Decomposition.parse(text).steps for text in (alone[0], alone[1], alone[0])]
    assert [tuple(answer["sub_questions"]) for answer in answered] == asked
    assert {answer["question"] for answer in answered} == {GOLDEN[0]}
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("error: line 3: '@second' has no question after the name")
    assert errors[1].startswith("error: line 4: there is no adapter 'third' (second)")
    assert main(["decompose", str(first), "--adapter", str(second), "--input", "x", "--output", "y"]) == 1


def test_adapters_that_do_not_match_are_refused(runs: tuple[Path, Path], tiny_model: TINY, tmp_path: Path) -> None:
    first, second = runs
    both = Decomposer(first)
    for name in ("", "a.b", "default"):
        with pytest.raises(UserError, match="cannot name another adapter"):
            both.add_adapter(name, second)
    whole = make_run(tmp_path / "whole", tiny_model("mistral"))
    with pytest.raises(UserError, match="is a whole model, not an adapter"):
        both.add_adapter("w", whole)
    with pytest.raises(UserError, match="is a whole model; only an adapter's base model can take another"):
        Decomposer(whole).add_adapter("a", first)
    other_base = make_run(tmp_path / "llama", tiny_model("llama"), "tiny/full", "lora.r=4", lora_scale=0.1)
    with pytest.raises(UserError, match=r"was trained with another base model than .*first; load it by itself"):
        both.add_adapter("b", other_base)
    quantized = make_run(
        tmp_path / "q", tiny_model("mistral"), "tiny/full", "lora.r=4", "quantization.load_in_4bit=true", lora_scale=0.1
    )
    with pytest.raises(UserError, match="another quantization"):
        both.add_adapter("q", quantized)
    template = tmp_path / "other.jinja"
    template.write_text("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")
    worded = make_run(
        tmp_path / "t",
        tiny_model("mistral"),
        "tiny/full",
        "lora.r=4",
        f"model.chat_template={template}",
        lora_scale=0.1,
    )
    with pytest.raises(UserError, match="another chat template"):
        both.add_adapter("t", worded)
    broken = Path(shutil.copytree(second, tmp_path / "broken"))
    path = broken / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="the adapter cannot be loaded"):
        both.add_adapter("x", broken)
    both.add_adapter("x", second)  # the name is free again
    manifest = read_manifest(broken)
    manifest.state = "running"
    write_manifest(broken, manifest)
    with pytest.raises(UserError, match="has not finished"):
        both.add_adapter("y", broken)
    assert both.text(GOLDEN[0]) == Decomposer(first).text(GOLDEN[0])  # nothing of it stayed
