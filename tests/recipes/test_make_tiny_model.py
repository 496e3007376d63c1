"""The tiny models: they load with the Auto classes alone and keep what is peculiar to each family."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

SCRIPT = ROOT / "scripts" / "make_tiny_model.py"
ARCHITECTURES = ("llama", "llama3", "mistral", "gpt_neox", "qwen3", "gemma3_text")
NEWER = {
    "llama3_2": ("<|begin_of_text|>", "<|eot_id|>", ["<|end_of_text|>", "<|eot_id|>"]),
    "kanana": ("<|begin_of_text|>", "<|eot_id|>", ["<|eot_id|>"]),
    "ministral": ("<s>", "</s>", ["</s>", "[INST]", "[/INST]"]),
    "qwen3_thinking": (None, "<|im_end|>", ["<|im_start|>", "<|im_end|>"]),
    "gemma3": ("<bos>", "<eos>", ["<eos>", "<end_of_turn>"]),
    "exaone4": ("[BOS]", "[|endofturn|]", ["[|user|]", "[|assistant|]", "[|endofturn|]"]),
    "hyperclovax": (None, "<|endofturn|>", ["<|im_start|>", "<|im_end|>", "<|endofturn|>", "<|stop|>"]),
}
"""Architecture of a recipe for `qdsft recipe --new` -> BOS, EOS, and special tokens that stay whole."""
TEXTS = (
    "Which company makes the iPhone, and when was its founder born?",
    "대한민국의 수도에서 가장 높은 건물은 언제 완공되었나요?",
    "1. 뷁쀍은 누구인가요?\n2. Who is 뷁쀍?\n\n\n20. café",
    "Emoji 😀👩‍👩‍👧 and 漢字, tab\tand  two spaces.\n",
)


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tiny_model", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT_MODULE = load_script()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    for architecture in ARCHITECTURES:
        SCRIPT_MODULE.build(architecture, root / architecture)
    assert sorted(path.name for path in root.iterdir()) == sorted(ARCHITECTURES)  # no scratch left behind
    return {architecture: root / architecture for architecture in ARCHITECTURES}


def tokenizer_of(path: Path) -> Any:
    return AutoTokenizer.from_pretrained(path)


def model_of(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path)


def digests(path: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_text_round_trips(built: dict[str, Path], architecture: str) -> None:
    tokenizer = tokenizer_of(built[architecture])
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids


SPECIALS = {
    "llama": {"<unk>": 0, "<s>": 1, "</s>": 2},
    "llama3": {
        "<|begin_of_text|>": -5,
        "<|end_of_text|>": -4,
        "<|start_header_id|>": -3,
        "<|end_header_id|>": -2,
        "<|eot_id|>": -1,
    },
    "mistral": {
        "<unk>": 0,
        "<s>": 1,
        "</s>": 2,
        "[INST]": 3,
        "[/INST]": 4,
        "[TOOL_CALLS]": 5,
        "[AVAILABLE_TOOLS]": 6,
        "[/AVAILABLE_TOOLS]": 7,
        "[TOOL_RESULTS]": 8,
        "[/TOOL_RESULTS]": 9,
    },
    "gpt_neox": {"<|endoftext|>": 2, "<|sep|>": 3, "<|acc|>": -3, "<|tel|>": -2, "<|rrn|>": -1},
    "qwen3": {"<|endoftext|>": -3, "<|im_start|>": -2, "<|im_end|>": -1},
    "gemma3_text": {
        "<pad>": 0,
        "<eos>": 1,
        "<bos>": 2,
        "<unk>": 3,
        "<mask>": 4,
        "<start_of_turn>": 5,
        "<end_of_turn>": 6,
    },
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_special_tokens_have_their_ids_and_stay_whole(built: dict[str, Path], architecture: str) -> None:
    tokenizer = tokenizer_of(built[architecture])
    for token, place in SPECIALS[architecture].items():  # a negative place counts from the end
        expected = place if place >= 0 else len(tokenizer) + place
        assert tokenizer.convert_tokens_to_ids(token) == expected, token
        ids = tokenizer(f"a{token}b", add_special_tokens=False)["input_ids"]
        assert ids.count(expected) == 1, token
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "ab", token


@pytest.mark.parametrize(
    ("architecture", "bos", "eos", "pad"),
    [
        ("llama", "<s>", "</s>", None),
        ("llama3", "<|begin_of_text|>", "<|eot_id|>", None),
        ("mistral", "<s>", "</s>", None),
        ("gpt_neox", None, "<|endoftext|>", None),
        ("qwen3", None, "<|im_end|>", "<|endoftext|>"),
        ("gemma3_text", "<bos>", "<eos>", "<pad>"),
    ],
)
def test_bos_eos_and_pad(built: dict[str, Path], architecture: str, bos: str | None, eos: str, pad: str | None) -> None:
    tokenizer = tokenizer_of(built[architecture])
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (bos, eos, pad)
    ids = tokenizer("Who?")["input_ids"]
    bare = tokenizer("Who?", add_special_tokens=False)["input_ids"]
    assert ids == ([tokenizer.bos_token_id] if bos else []) + bare
    assert bool(tokenizer.chat_template) == (architecture == "qwen3")


def test_llama3_keeps_three_digits_together_and_its_generation_config_ends_documents(built: dict[str, Path]) -> None:
    tokenizer, model = tokenizer_of(built["llama3"]), model_of(built["llama3"])
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("1234 a")
    assert [piece for piece, _ in split] == ["123", "4", "Ġa"]
    end = tokenizer.convert_tokens_to_ids("<|end_of_text|>")
    assert model.generation_config.eos_token_id == end != tokenizer.eos_token_id == model.config.eos_token_id


def test_gpt_neox_gives_token_type_ids_that_generate_refuses(built: dict[str, Path]) -> None:
    encoded = tokenizer_of(built["gpt_neox"])("누구?", return_tensors="pt")
    assert "token_type_ids" in encoded
    with pytest.raises(ValueError, match="token_type_ids"):
        model_of(built["gpt_neox"]).generate(**encoded, max_new_tokens=1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forward_and_generate(built: dict[str, Path], architecture: str) -> None:
    tokenizer, model = tokenizer_of(built[architecture]), model_of(built[architecture])
    ids = tokenizer(TEXTS[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        output = model(input_ids=ids, labels=ids)
    assert torch.isfinite(output.logits).all() and torch.isfinite(output.loss)
    assert output.logits.shape[-1] == model.config.vocab_size >= len(tokenizer)
    mask = torch.ones_like(ids)
    out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert ids.shape[1] < out.shape[1] <= ids.shape[1] + 5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_all_linear_finds_its_targets(built: dict[str, Path], architecture: str) -> None:
    model = get_peft_model(
        model_of(built[architecture]),
        LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    names = {
        name.rsplit(".lora_A", 1)[0].rsplit(".", 1)[1] for name, _ in model.named_parameters() if ".lora_A" in name
    }
    if architecture == "gpt_neox":
        assert names == {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}
    else:
        assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_configs_keep_what_is_peculiar_to_the_family(built: dict[str, Path]) -> None:
    config = {name: model_of(path).config for name, path in built.items()}
    assert config["llama"].num_key_value_heads == config["llama"].num_attention_heads
    assert config["mistral"].num_key_value_heads < config["mistral"].num_attention_heads
    assert config["llama3"].num_key_value_heads < config["llama3"].num_attention_heads
    assert config["mistral"].sliding_window is None
    assert config["gpt_neox"].rope_parameters["partial_rotary_factor"] == 0.25
    assert config["gpt_neox"].use_parallel_residual is True
    assert (config["gpt_neox"].bos_token_id, config["gpt_neox"].eos_token_id) == (0, 2)
    assert config["qwen3"].tie_word_embeddings and config["gemma3_text"].tie_word_embeddings
    assert config["gemma3_text"].layer_types == ["sliding_attention", "full_attention"]
    limits = {name: each.max_position_embeddings for name, each in config.items()}
    assert limits == {name: 2048 if name == "gpt_neox" else 4096 for name in ARCHITECTURES}
    tokenizer, model = tokenizer_of(built["qwen3"]), model_of(built["qwen3"])
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert model.generation_config.eos_token_id == ends
    assert hasattr(model.model.layers[0].self_attn, "q_norm")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_files_are_small_and_names_are_the_usual_ones(built: dict[str, Path], architecture: str) -> None:
    files = {file.name: file.stat().st_size for file in built[architecture].iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files.keys()
    assert max(files.values()) < 3_000_000


def test_rebuilding_gives_the_same_bytes_and_keeps_the_caller_s_random_state(
    built: dict[str, Path], tmp_path: Path
) -> None:
    state = torch.get_rng_state()
    SCRIPT_MODULE.build("gemma3_text", tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), state)
    assert digests(tmp_path / "again") == digests(built["gemma3_text"])
    SCRIPT_MODULE.build("gemma3_text", tmp_path / "other", seed=1)
    other = digests(tmp_path / "other")
    assert other["tokenizer.json"] == digests(built["gemma3_text"])["tokenizer.json"]
    assert other["model.safetensors"] != digests(built["gemma3_text"])["model.safetensors"]


def test_another_process_gives_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "again"
    command = [sys.executable, str(SCRIPT), "--architecture", "llama", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{out}: tiny llama model written\n"), done.stderr
    assert digests(out) == digests(built["llama"])


def test_a_finished_model_is_left_alone(built: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = built["llama"]
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert SCRIPT_MODULE.main(["--architecture", "llama", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: this tiny llama model is there already\n"
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before


@pytest.mark.parametrize("kind", ["foreign", "other settings", "broken marker", "file"])
def test_anything_else_at_out_is_refused(
    kind: str, tmp_path: Path, built: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options: list[str] = []
    if kind == "file":
        out.write_text("mine")
    elif kind == "other settings":
        out, options = built["mistral"], ["--layers", "3"]
    else:
        out.mkdir()
        (out / ("notes.txt" if kind == "foreign" else "tiny_model.json")).write_text("mine")
    before = digests(out) if out.is_dir() else out.read_text()
    assert SCRIPT_MODULE.main(["--architecture", "mistral", str(out), *options]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and str(out) in captured.err
    assert (digests(out) if out.is_dir() else out.read_text()) == before


def test_an_empty_directory_is_used_and_sizes_are_followed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    SCRIPT_MODULE.build("llama", out, hidden_size=128, layers=1, vocab_size=600)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert (config["hidden_size"], config["num_hidden_layers"]) == (128, 1)
    assert config["vocab_size"] == len(tokenizer_of(out)) <= 600


@pytest.mark.parametrize(
    ("options", "said"),
    [({"hidden_size": 100}, "multiple of 64"), ({"vocab_size": 100}, "512"), ({"layers": 0}, "layer")],
)
def test_impossible_sizes_are_refused(options: dict[str, int], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        SCRIPT_MODULE.build("llama", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("architecture", NEWER)
def test_newer_families(architecture: str, tmp_path: Path) -> None:
    SCRIPT_MODULE.build(architecture, tmp_path / "tiny", layers=1)
    tokenizer, model = tokenizer_of(tmp_path / "tiny"), model_of(tmp_path / "tiny")
    bos, eos, specials = NEWER[architecture]
    assert (tokenizer.bos_token, tokenizer.eos_token) == (bos, eos)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    for token in specials:
        ids = tokenizer(f"a{token}b", add_special_tokens=False)["input_ids"]
        assert ids.count(tokenizer.convert_tokens_to_ids(token)) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "ab", token
    for token in ("<think>", "</think>"):  # decoded as text, so that an answer with them shows
        if architecture in ("qwen3_thinking", "exaone4"):
            ids = tokenizer(f"{token}\n", add_special_tokens=False)["input_ids"]
            assert len(ids) == 2 and tokenizer.decode(ids, skip_special_tokens=True) == f"{token}\n"
    ids = torch.tensor([tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        assert torch.isfinite(model(input_ids=ids, labels=ids).loss)
    assert {"q_proj", "down_proj"} <= {name.rpartition(".")[2] for name, _ in model.get_decoder().named_modules()}
    assert any("vision" in name for name, _ in model.named_modules()) == (architecture == "gemma3")
    stops = model.generation_config.eos_token_id
    named = set(tokenizer.convert_ids_to_tokens(stops if isinstance(stops, list) else [stops]))
    expected = {"gemma3": {"<eos>", "<end_of_turn>"}, "hyperclovax": {"<|endoftext|>"}}
    assert named >= expected.get(architecture, {eos})
    assert bool(tokenizer.chat_template) == (architecture != "ministral")
