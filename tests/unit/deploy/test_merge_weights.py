"""An adapter merged on disk, tensor by tensor, is what PEFT merges in memory, and what the adapter computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from qdsft.deploy import merge_weights
from qdsft.deploy.merge_weights import Merge
from qdsft.errors import UserError
from qdsft.model.file_check import ADAPTER_WEIGHTS
from qdsft.model.weight_files import BaseWeights

ARCHITECTURES = ("llama", "mistral", "gpt_neox", "gemma3_text", "qwen3")
TINY = Callable[[str], Path]
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": "all-linear"},
    "dora, rslora": {"target_modules": "all-linear", "use_dora": True, "use_rslora": True, "lora_alpha": 3},
    "patterns": {"target_modules": "all-linear", "rank_pattern": {"q_proj": 7}, "alpha_pattern": {"q_proj": 9}},
    "modules_to_save": {"target_modules": ["q_proj", "query_key_value"], "modules_to_save": ["lm_head"]},
    "embedding": {"target_modules": ["embed_tokens", "embed_in"]},
}


def adapted(base: Path, folder: Path, **settings: Any) -> PeftModel:
    """A model with a random adapter, saved to `folder`."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(0)
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, **settings))
    for name, weight in wrapped.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            weight.data = weight.data + 0.1 * torch.randn_like(weight)
    wrapped.save_pretrained(folder)
    return wrapped.eval()


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(10, 50).reshape(2, 20)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids).logits
    return found


def merged(base: Path, adapter: Path, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    config = AutoConfig.from_pretrained(base)
    plan = Merge(adapter, config)
    folder.mkdir()
    with BaseWeights(str(base)) as weights:
        plan.write(weights, folder, dtype)
    if plan.unties:
        config.tie_word_embeddings = False
    config.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_what_peft_merges(tiny_model: TINY, tmp_path: Path, architecture: str, kind: str) -> None:
    base = tiny_model(architecture)
    model = adapted(base, tmp_path / "adapter", **KINDS[kind])
    found, wanted = logits(merged(base, tmp_path / "adapter", tmp_path / "merged")), logits(model)
    with model.disable_adapter():
        untrained = logits(model)
    assert (found - wanted).abs().max() < 5e-5 and (untrained - wanted).abs().max() > 1e-2
    tied = model.config.tie_word_embeddings
    if not (tied and kind in {"embedding", "modules_to_save"}):  # there PEFT changes both ends of the tie
        assert torch.equal(found, logits(model.merge_and_unload(safe_merge=True)))


def test_a_bias_is_merged_too(tiny_model: TINY, tmp_path: Path) -> None:
    base = tiny_model("gpt_neox")
    model = adapted(base, tmp_path / "adapter", target_modules="all-linear", lora_bias=True)
    assert (logits(merged(base, tmp_path / "adapter", tmp_path / "m")) - logits(model)).abs().max() < 5e-5


def test_sums_are_done_in_float32_and_cast_once(tiny_model: TINY, tmp_path: Path) -> None:
    base = tiny_model("llama")
    adapted(base, tmp_path / "adapter", target_modules="all-linear")
    exact = merged(base, tmp_path / "adapter", tmp_path / "a").state_dict()
    half = merged(base, tmp_path / "adapter", tmp_path / "b", torch.bfloat16).state_dict()
    assert all(torch.equal(half[name], exact[name].bfloat16()) for name in exact)


@pytest.mark.parametrize("form", ["parts", "bin"])
def test_other_forms_of_base_models(tiny_model: TINY, tmp_path: Path, form: str) -> None:
    base = tiny_model("gpt_neox")
    model = adapted(base, tmp_path / "adapter", target_modules="all-linear")
    other = tmp_path / "base"
    if form == "parts":
        AutoModelForCausalLM.from_pretrained(base).save_pretrained(other, max_shard_size="200KB")
        assert len(list(other.glob("model-*.safetensors"))) > 2
    else:
        other.mkdir()
        shutil.copy(base / "config.json", other)
        torch.save(load_file(base / "model.safetensors"), other / "pytorch_model.bin")
    (other / "consolidated.safetensors").write_bytes(b"of another layout, and not read")
    found = merged(other, tmp_path / "adapter", tmp_path / "m")
    assert torch.equal(logits(found), logits(model.merge_and_unload()))


def test_files_are_bounded_and_each_tensor_is_in_one(
    tiny_model: TINY, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge_weights, "SHARD_BYTES", 300_000)
    base = tiny_model("mistral")
    model = adapted(base, tmp_path / "adapter", target_modules="all-linear")
    found = merged(base, tmp_path / "adapter", tmp_path / "m")
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "m").glob("model-*.safetensors"))
    names = [name for file in files for name in load_file(file)]
    assert len(files) > 3 and sorted(names) == sorted(index["weight_map"])
    assert index["metadata"]["total_size"] == sum(weight.nbytes for weight in found.state_dict().values())
    largest = max(weight.nbytes for weight in found.state_dict().values())
    assert max(file.stat().st_size for file in files) < max(300_000, largest) + 10_000
    assert torch.equal(logits(found), logits(model.merge_and_unload()))


def damage_missing(adapter: Path) -> None:
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    del tensors["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"]
    save_file(tensors, adapter / ADAPTER_WEIGHTS)


def damage_extra(adapter: Path) -> None:
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    tensors["base_model.model.model.layers.9.mlp.up_proj.lora_B.weight"] = torch.zeros(1)
    save_file(tensors, adapter / ADAPTER_WEIGHTS)


def damage_nan(adapter: Path) -> None:
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, adapter / ADAPTER_WEIGHTS)


def damage_shape(adapter: Path) -> None:
    tensors = load_file(adapter / ADAPTER_WEIGHTS)
    name = next(iter(tensors))
    tensors[name] = tensors[name][:-1].contiguous()
    save_file(tensors, adapter / ADAPTER_WEIGHTS)


def damage_cut(adapter: Path) -> None:
    content = (adapter / ADAPTER_WEIGHTS).read_bytes()
    (adapter / ADAPTER_WEIGHTS).write_bytes(content[:-100])


def setting(**values: Any) -> Callable[[Path], None]:
    def change(adapter: Path) -> None:
        path = adapter / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, r"lora_B.default.weight is missing or unknown; put the adapter's files back"),
        (damage_extra, r"layers.9.mlp.up_proj.lora_B.weight is in the files and not in the model"),
        (damage_nan, r"holds NaN or infinity; put the adapter's files back or train again"),
        (damage_shape, r"has another shape than the base model's"),
        (damage_cut, r"adapter_model.safetensors is cut or damaged .*; put the adapter's files back"),
        (
            lambda adapter: (adapter / ADAPTER_WEIGHTS).unlink(),
            r"No such file or directory: .*adapter_model",
        ),
        (lambda adapter: (adapter / "adapter_config.json").write_text("{"), r"adapter_config.json is not JSON; put"),
        (setting(peft_type="IA3"), r"(only LoRA adapters can be merged|cannot be loaded)"),
        (setting(bias="all"), r"an adapter with bias: all cannot be merged"),
        (setting(target_parameters=["mlp.experts"]), r"an adapter with target_parameters cannot be merged"),
    ],
)
def test_damaged_and_unknown_adapters_are_refused(
    tiny_model: TINY, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    base = tiny_model("llama")
    adapted(base, tmp_path / "adapter", target_modules="all-linear")
    damage(tmp_path / "adapter")
    with pytest.raises(UserError, match=message) as caught:
        Merge(tmp_path / "adapter", AutoConfig.from_pretrained(base))
    assert "\n" not in str(caught.value)


def test_base_models_that_cannot_be_read(tiny_model: TINY, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights to merge into"):
        BaseWeights(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="weights cannot be loaded"), BaseWeights(str(tmp_path)):
        pass
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model-00001-of-00002.safetensors is missing"):
        BaseWeights(str(tmp_path))


def test_a_base_model_without_a_changed_weight(tiny_model: TINY, tmp_path: Path) -> None:
    base = tiny_model("llama")
    adapted(base, tmp_path / "adapter", target_modules="all-linear")
    tensors = load_file(base / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    (tmp_path / "base").mkdir()
    save_file(tensors, tmp_path / "base" / "model.safetensors")
    plan = Merge(tmp_path / "adapter", AutoConfig.from_pretrained(base))
    with (
        BaseWeights(str(tmp_path / "base")) as weights,
        pytest.raises(UserError, match=r"the base model: model.layers.0.mlp.up_proj.weight is missing"),
    ):
        plan.write(weights, tmp_path, torch.float32)
