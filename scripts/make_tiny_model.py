#!/usr/bin/env python3
"""Build a tiny, randomly initialised causal LM whose tokenizer behaves like the real family's.

Tests, the quickstart and CPU runs of the recipes use these models instead of checkpoints of gigabytes. They keep what
breaks fine-tuning code: BOS, special token ids, a missing pad token, byte fallback, token_type_ids, an embedding
larger than the vocabulary.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, where installed, says that there is no GPU

import torch
import transformers
from transformers import PreTrainedConfig

from tiny_tokenizers import make_tokenizer

ARCHITECTURES = (
    *("llama", "llama3", "llama3_2", "kanana", "mistral", "ministral", "gpt_neox", "qwen3", "qwen3_thinking"),
    *("gemma3_text", "gemma3", "exaone4", "hyperclovax"),
)
CORPUS = Path(__file__).resolve().parent.parent / "data" / "examples" / "sample_train.jsonl"
MARKER = "tiny_model.json"
FORMAT = 1  # raise it when the same settings begin to give another model
HEAD_DIM = 16  # of the smallest; wider models have heads of 32


def _corpus(path: Path) -> list[str]:
    texts: list[str] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            row = json.loads(line)
            texts += [row["question"], *row["sub_questions"]]
    numbers = "\n".join(f"{n}. " for n in range(1, 21))
    return [*texts, numbers, "Question: \nSub-questions:\n1. ", "### 질문: \n\n### 답변: 1. "]


def _config(architecture: str, tokenizer: Any, hidden: int, layers: int, tie: bool = False) -> PreTrainedConfig:
    head_dim = HEAD_DIM if hidden < 128 else 2 * HEAD_DIM
    heads = hidden // head_dim
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 4096,
        "dtype": "float32",  # the real ones are in half precision; CPU training wants float32
    }
    padded = -(-len(tokenizer) // 64) * 64 + 64  # Qwen (151936) and Polyglot (30080) have rows without tokens
    if architecture == "ministral":
        common |= {"head_dim": head_dim, "num_key_value_heads": heads // 2, "bos_token_id": 1, "eos_token_id": 2}
        return transformers.MistralConfig(**common, sliding_window=2048)  # half of the positions; the real one has all
    if architecture == "exaone4":
        ids = tokenizer.convert_tokens_to_ids(["[PAD]", "[BOS]", "[|endofturn|]"])
        common |= dict(zip(("pad_token_id", "bos_token_id", "eos_token_id"), ids, strict=True))
        # As in the 1.2B model, every layer has full attention. The 32B model has a sliding window.
        common |= {"sliding_window": None, "layer_types": ["full_attention"] * layers, "tie_word_embeddings": True}
        return transformers.Exaone4Config(**common, num_key_value_heads=heads // 2)
    if architecture == "hyperclovax":
        # Generation stops at <|endofturn|>, which the real config.json does not name.
        end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
        common |= {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end, "tie_word_embeddings": True}
        return transformers.LlamaConfig(**common, head_dim=2 * head_dim, num_key_value_heads=heads // 2)
    if architecture in ("llama", "mistral"):
        common |= {"head_dim": head_dim, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2}
        if architecture == "llama":
            return transformers.LlamaConfig(**common, num_key_value_heads=heads, tie_word_embeddings=tie)
        # v0.3 has a larger base instead of a sliding window.
        rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e6}
        common |= {"num_key_value_heads": heads // 2, "sliding_window": None, "rope_parameters": rope}
        return transformers.MistralConfig(**common)
    if architecture in ("llama3", "llama3_2", "kanana"):
        bos, eos = tokenizer.convert_tokens_to_ids(["<|begin_of_text|>", "<|eot_id|>"])
        rope = {"rope_type": "default", "rope_theta": 5e5}
        if architecture == "llama3_2":
            rope |= {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            rope |= {"original_max_position_embeddings": 512}
        common |= {"head_dim": head_dim, "rms_norm_eps": 1e-5, "num_key_value_heads": heads // 2}
        common |= {"tie_word_embeddings": architecture == "llama3_2"}
        return transformers.LlamaConfig(**common, rope_parameters=rope, bos_token_id=bos, eos_token_id=eos)
    if architecture == "gpt_neox":
        # The sizes in Polyglot-Ko's model card give rotary_pct 0.25 (64 of 256 dimensions) and 2048
        # positions. bos 0 and eos 2 are GPTNeoXConfig's defaults; the real config.json was not available.
        common |= {"vocab_size": padded, "intermediate_size": 4 * hidden, "max_position_embeddings": 2048}
        common |= {"rotary_pct": 0.25, "use_parallel_residual": True, "bos_token_id": 0, "eos_token_id": 2}
        return transformers.GPTNeoXConfig(**common)
    common |= {"head_dim": 2 * head_dim, "tie_word_embeddings": True}  # not hidden/heads, as in both
    if architecture in ("qwen3", "qwen3_thinking"):
        bos, eos = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
        rope = {"rope_type": "default", "rope_theta": 5e6}
        common |= {"vocab_size": padded, "num_key_value_heads": heads // 2, "rope_parameters": rope}
        return transformers.Qwen3Config(**common, bos_token_id=bos, eos_token_id=eos)
    # Every sixth layer and the last one have full attention, as in the real model (18 layers, so both rules agree).
    # The real window is 512; 64 also has an effect in the short rows of the tests.
    full = [n % 6 == 0 or n == layers for n in range(1, layers + 1)]
    kinds = ["full_attention" if this else "sliding_attention" for this in full]
    common |= {"num_key_value_heads": 1, "query_pre_attn_scalar": 2 * head_dim}
    common |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    text = transformers.Gemma3TextConfig(**common, sliding_window=64, layer_types=kinds)
    if architecture == "gemma3_text":
        return text
    vision: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 4, "image_size": 28, "patch_size": 14, "vision_use_head": False}
    turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    return transformers.Gemma3Config(
        text_config=text.to_dict(),
        vision_config=vision,
        mm_tokens_per_image=4,
        eos_token_id=[1, turn],
        tie_word_embeddings=True,
        dtype="float32",
    )


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Return whether OUT holds this model. Raises FileExistsError if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        if json.loads((out / MARKER).read_text(encoding="utf-8")) == settings:
            return True
    except (OSError, ValueError):
        pass
    raise FileExistsError(f"{out} exists and is not a finished tiny model of these settings; not touching it")


def _settings(
    architecture: str, hidden_size: int, layers: int, vocab_size: int, seed: int, corpus: Path, tie_embeddings: bool
) -> dict[str, Any]:
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: one of {', '.join(ARCHITECTURES)}")
    if hidden_size < 64 or hidden_size % 64:
        raise ValueError(f"hidden size {hidden_size} is not a multiple of 64, the block that nf4 quantises")
    if layers < 1 or vocab_size < 512:
        raise ValueError("at least 1 layer and a vocabulary of 512 (256 of it are the bytes) are needed")
    sizes = {"hidden_size": hidden_size, "layers": layers, "vocab_size": vocab_size}
    digest = hashlib.sha256(corpus.read_bytes()).hexdigest()
    return {
        "format": FORMAT,
        "architecture": architecture,
        **sizes,
        "seed": seed,
        "corpus": digest,
        "tied": tie_embeddings,
    }


def build(
    architecture: str,
    out: Path,
    *,
    hidden_size: int = 64,
    layers: int = 2,
    vocab_size: int = 2000,
    seed: int = 0,
    corpus: Path = CORPUS,
    tie_embeddings: bool = False,
) -> None:
    """Write the model and its tokenizer to `out`, unless `out` already holds the same model."""
    out = Path(out)
    settings = _settings(architecture, hidden_size, layers, vocab_size, seed, corpus, tie_embeddings)
    if _is_finished(out, settings):
        return
    tokenizer = make_tokenizer(architecture, _corpus(corpus), vocab_size)
    config = _config(architecture, tokenizer, hidden_size, layers, tie_embeddings)
    with torch.random.fork_rng(devices=[]):  # a caller's own random numbers stay what they were
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for weight in model.parameters():
            if weight.dim() > 1 and not weight.any():  # Gemma 3's projector: a checkpoint has no matrix of zeros
                torch.nn.init.normal_(weight, std=0.02)
    if architecture in ("qwen3", "qwen3_thinking"):  # as the real ones: either token ends a generation
        ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        sampling = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=ends[1], eos_token_id=ends, pad_token_id=ends[1], **sampling
        )
    if architecture == "llama3":  # as those of public fine-tunes: it names the end of a document, not that of a turn
        bos, end = tokenizer.convert_tokens_to_ids(["<|begin_of_text|>", "<|end_of_text|>"])
        sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
        model.generation_config = transformers.GenerationConfig(bos_token_id=bos, eos_token_id=end, **sampling)
    if architecture in ("llama3_2", "gemma3"):  # they end a turn and a document in different tokens
        ends = tokenizer.convert_tokens_to_ids(
            ["<|end_of_text|>", "<|eot_id|>"] if architecture == "llama3_2" else ["<eos>", "<end_of_turn>"]
        )
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    # Write beside OUT, on the same file system, and rename: OUT is never incomplete.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        staged = Path(scratch) / "model"
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        (staged / MARKER).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        staged.replace(out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--architecture", required=True, choices=ARCHITECTURES)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab-size", type=int, default=2000, help="at most; the corpus may not fill it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tie-embeddings", action="store_true", help="llama: one matrix for both ends, which copies names"
    )
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="JSON Lines of questions for the tokenizer")
    transformers.utils.logging.disable_progress_bar()
    args = vars(parser.parse_args(argv))
    architecture, out = args.pop("architecture"), args.pop("out")
    try:
        if _is_finished(out, _settings(architecture, **args)):
            print(f"{out}: this tiny {architecture} model is there already")
            return 0
        build(architecture, out, **args)
    except (OSError, ValueError, KeyError) as error:
        print(f"make_tiny_model: {error}", file=sys.stderr)
        return 1
    print(f"{out}: tiny {architecture} model written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
