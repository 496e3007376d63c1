"""`qdsft merge`: the merged model answers as the adapter did, says how well, and needs no qdsft any more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_run import GOLDEN, make_run
from safetensors import safe_open

from qdsft.cli.main import main
from qdsft.data.synth import generate_mixed
from qdsft.deploy import merge_agreement, merge_weights
from qdsft.deploy.merge import merge
from qdsft.deploy.merge_agreement import failures, limits
from qdsft.errors import UserError
from qdsft.hashing import file_sha256
from qdsft.inference.decomposer import Decomposer

TINY = Callable[[str], Path]
QLORA = ("quantization.load_in_4bit=true", "quantization.bnb_4bit_quant_type=nf4", "lora.r=4")
LORA = ("lora.r=4",)


def run_of(tmp_path: Path, base: Path, *overrides: str, held_out: int = 0, name: str = "run") -> Path:
    run_dir = make_run(tmp_path / name, base, "tiny/full", *overrides, lora_scale=0.1)
    if held_out:
        rows = []
        for row in generate_mixed(["en", "ko"], held_out, 5):
            messages = [{"role": "user", "content": row["question"]}]
            steps = "\n".join(f"{n}. {step}" for n, step in enumerate(row["sub_questions"], 1))
            rows.append(json.dumps({"row": row, "messages": messages, "completion": steps}, ensure_ascii=False) + "\n")
        (run_dir / "eval.jsonl").write_text("".join(rows), encoding="utf-8")
        manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
        manifest["data"]["eval_rows"] = held_out
        (run_dir / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    return run_dir


@pytest.fixture(scope="module")
def adapter_run(tiny_model: TINY, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("adapter"), tiny_model("qwen3"), *LORA, held_out=5)


PLAIN = """
import json, sys
sys.modules["qdsft"] = None  # importing it would fail
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
messages = [{"role": "user", "content": question}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs)
text = tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
print(json.dumps({"text": text.strip(), "dtype": str(model.dtype), "eos": model.generation_config.eos_token_id}))
"""


@pytest.mark.slow
def test_it_answers_in_plain_transformers(adapter_run: Path, tmp_path: Path) -> None:
    assert main(["merge", str(adapter_run), "--output", str(tmp_path / "merged"), "--dtype", "float32"]) == 0
    shutil.move(adapter_run / "adapter", adapter_run / "away")  # nothing of the run is needed
    try:
        command = [sys.executable, "-c", PLAIN, str(tmp_path / "merged"), GOLDEN[0]]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    finally:
        shutil.move(adapter_run / "away", adapter_run / "adapter")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    trained = Decomposer(adapter_run)
    assert found["text"] == trained.text(GOLDEN[0]) and found["dtype"] == "torch.float32"
    assert found["eos"] == trained.run.manifest.stop_token_ids and len(found["eos"]) == 2


def test_the_certificate(adapter_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "made" / "merged"
    found = merge(adapter_run, output, dtype="float32")
    assert found == json.loads((output / "merge.json").read_text(encoding="utf-8"))
    assert found["passed"] is True and found["base"] == "original" and found["failed"] == []
    [figures] = found["candidates"].values()
    assert figures["answers"] == {"compared": 5, "identical": 1.0} and figures["logits"]["mean_kl"] < 1e-9
    assert figures["logits"]["positions"] > 50 and 0 < figures["logits"]["largest_difference"] < 1e-4
    assert figures["scores"].keys() >= {"exact_match", "sari"}
    assert all(score["difference"] == 0 for score in figures["scores"].values())
    files = {path.name for path in output.iterdir()}
    assert files == {*found["files"], "merge.json"}
    assert files >= {"README.md", "run.json", "model.safetensors", "generation_config.json", "chat_template.jinja"}
    assert all(file_sha256(output / name) == digest for name, digest in found["files"].items())
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "# merged\n" in card and "## Merge" in card and "| original |" in card
    assert str(tmp_path) not in "".join(path.read_text(encoding="utf-8") for path in output.glob("*.[jm][sd]*[nd]"))
    said = capsys.readouterr().err
    assert "GiB of memory and" in said and said.index("GiB of memory") < said.index("merging into")
    assert Decomposer(output).text(GOLDEN[1]) == Decomposer(adapter_run).text(GOLDEN[1])  # also a run directory
    assert [path.name for path in output.parent.iterdir()] == ["merged"]


def test_both_bases_of_a_quantized_run(tiny_model: TINY, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = run_of(tmp_path, tiny_model("mistral"), *QLORA)
    assert main(["merge", str(run_dir), "--output", str(tmp_path / "m"), "--dtype", "float32"]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "m" / "merge.json").read_text(encoding="utf-8"))
    assert found["base"] == "dequantized" and found["passed"] and "agrees with the adapter" in printed
    kl = {name: figures["logits"]["mean_kl"] for name, figures in found["candidates"].items()}
    assert kl["dequantized"] < 1e-8 < 1e-4 < kl["original"]
    assert json.loads((tmp_path / "m" / "config.json").read_text()).get("quantization_config") is None
    assert Decomposer(tmp_path / "m").text(GOLDEN[0]) == Decomposer(run_dir).text(GOLDEN[0])
    original = merge(run_dir, tmp_path / "o", dtype="float32", base="original")
    assert original["base"] == "original" and not original["passed"] and list(original["candidates"]) == ["original"]
    assert original["candidates"]["original"] == found["candidates"]["original"]


def test_a_merge_that_is_wrong_does_not_pass(
    adapter_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forgetful(*arguments: Any, **options: Any) -> Any:
        plan = real(*arguments, **options)
        for name in list(plan.changes)[3:]:  # most of the adapter is lost
            del plan.changes[name]
        return plan

    real = merge_weights.Merge
    monkeypatch.setattr("qdsft.deploy.merge.Merge", forgetful)
    assert main(["merge", str(adapter_run), "--output", str(tmp_path / "m"), "--dtype", "float32"]) == 0
    found = json.loads((tmp_path / "m" / "merge.json").read_text(encoding="utf-8"))
    assert found["passed"] is False and "mean KL" in found["failed"][0]
    assert "NOT PASSED: mean KL" in capsys.readouterr().out
    assert "**not passed**" in (tmp_path / "m" / "README.md").read_text(encoding="utf-8")


def test_without_the_check(
    tiny_model: TINY, adapter_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = merge(adapter_run, tmp_path / "a", dtype="float16")
    monkeypatch.setattr("qdsft.deploy.merge.load_weights", None)  # no model is ever loaded
    found = merge(adapter_run, tmp_path / "b", dtype="float16", check=False)
    assert found["passed"] is None and found["candidates"] == {}
    assert found["files"]["model.safetensors"] == checked["files"]["model.safetensors"]
    with safe_open(tmp_path / "b" / "model.safetensors", "pt") as reader:
        assert {reader.get_tensor(name).dtype for name in reader.keys()} == {torch.float16}  # noqa: SIM118
    run_dir = run_of(tmp_path, tiny_model("llama"), *QLORA)
    with pytest.raises(UserError, match="which base agrees better is not known without the check; give --base"):
        merge(run_dir, tmp_path / "c", check=False)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["merge", *map(str, arguments)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


def test_what_cannot_be_merged(
    tiny_model: TINY, adapter_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert "no run directory (run.json is missing)" in refusal(capsys, tmp_path / "nope", "--output", output)
    whole = make_run(tmp_path / "whole", tiny_model("llama"))
    assert f"is a whole model already: {whole / 'model'}" in refusal(capsys, whole, "--output", output)
    with pytest.raises(UserError, match="is a whole model already"):
        merge(whole, output)
    assert "exists; delete it or choose another --output" in refusal(capsys, adapter_run, "--output", tmp_path)
    assert "was not trained on a quantized base" in refusal(
        capsys, adapter_run, "--output", output, "--base", "dequantized"
    )
    unfinished = Path(shutil.copytree(adapter_run, tmp_path / "unfinished"))
    manifest = json.loads((unfinished / "run.json").read_text(encoding="utf-8"))
    (unfinished / "run.json").write_text(json.dumps({**manifest, "state": "running"}), encoding="utf-8")
    assert "this run has not finished; resume it with: qdsft train" in refusal(capsys, unfinished, "--output", output)
    damaged = Path(shutil.copytree(adapter_run, tmp_path / "damaged"))
    weights = damaged / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    assert "adapter_model.safetensors: cannot be read" in refusal(capsys, damaged, "--output", output)
    (tmp_path / "file").touch()
    assert "cannot be written" in refusal(capsys, adapter_run, "--output", tmp_path / "file" / "m")
    assert not output.exists() and not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_disk_without_room(
    adapter_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 10, 1000))
    assert "are needed and 0.00 GiB are free; free some space or" in refusal(
        capsys, adapter_run, "--output", tmp_path / "m"
    )
    monkeypatch.undo()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qdsft.deploy.merge_weights.save_file", full)
    message = refusal(capsys, adapter_run, "--output", tmp_path / "m")
    assert f"{tmp_path / 'm'}: cannot be written: No space left on device; free some space" in message
    assert list(tmp_path.iterdir()) == []


def test_the_thresholds() -> None:
    good = {"logits": {"mean_kl": 0.0}, "answers": {"identical": 1.0}, "scores": {"sari": {"difference": -0.01}}}
    full, half = limits([torch.float32, torch.float32]), limits([torch.float32, torch.bfloat16])
    assert failures(good, full) == [] and half["mean_kl"] == merge_agreement.MEAN_KL[torch.bfloat16]
    bad: dict[str, Any] = {**good, "logits": {"mean_kl": 0.02}, "answers": {"identical": 0.5}}
    bad["scores"] = {"sari": {"difference": -0.3}, "chrf": {"difference": -0.3}}
    assert [text.split()[0] for text in failures(bad, half)] == ["mean", "50%", "sari"]
    assert failures({**good, "logits": {"mean_kl": float("nan")}}, full) != []


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt_neox", "gemma3_text", "qwen3"])
def test_the_error_of_every_merge(
    tiny_model: TINY, tmp_path: Path, architecture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows of the table in docs/MERGING.md; `-s` shows them."""
    lines = []
    kinds = {"LoRA": LORA, "QLoRA nf4": QLORA}
    if architecture == "llama":
        kinds["QLoRA int8"] = ("quantization.load_in_8bit=true", "lora.r=4")
    for kind, overrides in kinds.items():
        run_dir = run_of(tmp_path, tiny_model(architecture), *overrides, name=kind.replace(" ", "-"))
        for dtype in ("float32", "bfloat16"):
            found = merge(run_dir, tmp_path / f"{kind}-{dtype}", dtype=dtype)["candidates"]
            for base, figures in found.items():
                logits = figures["logits"]
                lines.append(
                    f"| {architecture} | {kind} | {base} | {dtype} | {logits['mean_kl']:.1e} | "
                    f"{logits['largest_difference']:.1e} |"
                )
            best = found.get("dequantized", found["original"])["logits"]["mean_kl"]
            assert best < {"float32": 1e-6, "bfloat16": 1e-4}[dtype] or kind == "QLoRA int8"
            if kind == "QLoRA nf4":
                assert found["original"]["logits"]["mean_kl"] > 5 * best
    with capsys.disabled():
        print("", *lines, sep="\n")
