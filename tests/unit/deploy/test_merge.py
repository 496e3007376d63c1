"""`qdsft merge`: the certificate, the choice of the base, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.adapter_runs import LORA, QLORA, run_of
from helpers.gpus import pretend_gpus
from helpers.quantized_bases import save_quantized
from helpers.tiny_run import GOLDEN, make_run
from safetensors import safe_open

from qdsft.cli.main import main
from qdsft.deploy import merge as merging
from qdsft.deploy import merge_weights
from qdsft.deploy.merge import merge
from qdsft.errors import UserError
from qdsft.hashing import file_sha256
from qdsft.inference.decomposer import Decomposer
from qdsft.inference.loaded_run import load_prompts, load_weights
from qdsft.model.device import Machine
from qdsft.runs.certificate import read_certificate

TINY = Callable[[str], Path]


@pytest.fixture(scope="module")
def adapter_run(tiny_model: TINY, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("adapter"), tiny_model("qwen3"), *LORA, held_out=5)


def test_the_certificate(adapter_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "made" / "merged"
    found = merge(adapter_run, output, dtype="float32")
    assert found.model_dump() == json.loads((output / "merge.json").read_text(encoding="utf-8"))
    assert read_certificate(output) == found
    assert found.passed is True and found.base == "original" and found.failed == []
    [figures] = found.candidates.values()
    assert (figures.answers.compared, figures.answers.identical) == (5, 1.0) and figures.logits.mean_kl < 1e-9
    assert figures.logits.positions > 50 and 0 < figures.logits.largest_difference < 1e-4
    assert figures.scores.keys() >= {"exact_match", "sari"}
    assert all(change.difference == 0 for change in figures.scores.values())
    files = {path.name for path in output.iterdir()}
    assert files == {*found.files, "merge.json"}
    assert files >= {"README.md", "run.json", "model.safetensors", "generation_config.json", "chat_template.jinja"}
    assert all(file_sha256(output / name) == digest for name, digest in found.files.items())
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "# merged\n" in card and "## Merge" in card and "| original |" in card
    assert str(tmp_path) not in "".join(path.read_text(encoding="utf-8") for path in output.glob("*.[jm][sd]*[nd]"))
    said = capsys.readouterr().err
    assert "GiB of memory and" in said and said.index("GiB of memory") < said.index("merging into")
    assert Decomposer(output).text(GOLDEN[1]) == Decomposer(adapter_run).text(GOLDEN[1])  # also a run directory
    assert [path.name for path in output.parent.iterdir()] == ["merged"]


@pytest.mark.slow
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
    assert original.base == "original" and not original.passed and list(original.candidates) == ["original"]
    assert original.candidates["original"].model_dump() == found["candidates"]["original"]


@pytest.mark.parametrize("bits", [4, 8])
def test_a_base_saved_quantized_merges_into_its_dequantized_weights(
    bits: int, tiny_model: TINY, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_quantized(tiny_model("mistral"), tmp_path / "base", **({} if bits == 4 else {"load_in_8bit": True}))
    quantized = QLORA if bits == 4 else ("quantization.load_in_8bit=true", "lora.r=4")
    run_dir = run_of(tmp_path, base, *quantized)
    found = merge(run_dir, tmp_path / "m", dtype="float32")
    assert found.base == "dequantized" and list(found.candidates) == ["dequantized"]
    assert found.passed or bits == 8, "8-bit arithmetic rounds activations, which no merge can repeat"
    with safe_open(tmp_path / "m" / "model.safetensors", "pt") as reader:
        shapes = {name: tuple(reader.get_slice(name).get_shape()) for name in reader.keys()}  # noqa: SIM118
    with safe_open(tiny_model("mistral") / "model.safetensors", "pt") as reader:
        assert shapes == {name: tuple(reader.get_slice(name).get_shape()) for name in reader.keys()}  # noqa: SIM118
    assert json.loads((tmp_path / "m" / "config.json").read_text()).get("quantization_config") is None
    if bits == 4:
        assert Decomposer(tmp_path / "m").text(GOLDEN[0]) == Decomposer(run_dir).text(GOLDEN[0])
    output = ("--output", tmp_path / "o")
    assert "saved quantized, so that there is no original base; leave out --base" in refusal(
        capsys, run_dir, *output, "--base", "original"
    )
    edit = json.loads((base / "config.json").read_text(encoding="utf-8"))
    edit["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(edit), encoding="utf-8")
    assert "error: " in refusal(capsys, run_dir, *output)


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
    assert found.passed is None and found.candidates == {}
    assert found.files["model.safetensors"] == checked.files["model.safetensors"]
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


def test_runs_that_cannot_be_merged_are_refused(
    tiny_model: TINY, adapter_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert "no run directory (run.json is missing)" in refusal(capsys, tmp_path / "nope", "--output", output)
    whole = make_run(tmp_path / "whole", tiny_model("llama"))
    assert f"is a whole model already; use {whole / 'model'} as it is" in refusal(capsys, whole, "--output", output)
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
    assert "adapter_model.safetensors is cut or damaged" in refusal(capsys, damaged, "--output", output)
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


def test_a_merged_model_without_room_on_the_gpu_is_compared_on_the_cpu(
    adapter_run: Path, tiny_model: TINY, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = load_weights(load_prompts(adapter_run))
    shell = dataclasses.replace(shell, machine=Machine("cuda", "a GPU", torch.bfloat16))
    gpus = pretend_gpus(monkeypatch, free=0.0)
    assert merging._load_merged(tiny_model("qwen3"), shell, torch.float32).model.device.type == "cpu"
    assert "does not fit into the GPU's free memory; comparing on the CPU" in capsys.readouterr().err
    merging._free()
    assert gpus.calls[-1] == ("empty_cache", None)


@pytest.mark.parametrize("message", ["CUDA out of memory. Tried to allocate 2 GiB", "not enough memory: you tried"])
def test_too_little_memory_to_compare_names_the_way_without_it(
    adapter_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(merging, "AutoModelForCausalLM", SimpleNamespace(from_pretrained=full))
    said = refusal(capsys, adapter_run, "--output", tmp_path / "m")
    assert "out of memory while comparing the merged model" in said and "--no-check" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("gpu", "gib"), [(False, "3.73"), (True, "1.86")])
def test_weights_that_are_compared_take_half_as_much_on_a_gpu(
    gpu: bool, gib: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if gpu:
        pretend_gpus(monkeypatch)
    weights: Any = SimpleNamespace(shapes=lambda: {"a": (1000, 1000)} | {f"b{n}": (1000, 1000) for n in range(999)})
    prompts = SimpleNamespace(recipe=SimpleNamespace(quantization=None))
    monkeypatch.setattr(merging, "SHARD_BYTES", 2**20)
    plan = SimpleNamespace(shapes=lambda base: base.shapes())
    job: Any = SimpleNamespace(dtype=torch.bfloat16, prompts=prompts, plan=plan, bases=["original"], check=True)
    merging._announce(tmp_path / "merged", weights, job)
    assert f"about {gib} GiB of memory and 1.86 GiB of disk" in capsys.readouterr().err
