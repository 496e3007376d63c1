#!/usr/bin/env python3
"""Build a tiny, randomly initialised causal LM whose tokenizer behaves like the real family's.

Tests, the quickstart and CPU runs of the recipes use these in place of checkpoints of gigabytes: what
breaks fine-tuning code (BOS, special token ids, a missing pad token, byte fallback, token_type_ids, an
embedding larger than the vocabulary) is kept, while the weights know nothing.
"""

from __future__ import annotations

import argparse
import collections
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
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

ARCHITECTURES = ("llama", "llama3", "mistral", "gpt_neox", "qwen3", "gemma3_text")
CORPUS = Path(__file__).resolve().parent.parent / "data" / "examples" / "sample_train.jsonl"
MARKER = "tiny_model.json"
FORMAT = 1  # raise it when the same settings begin to give another model
HEAD_DIM = 16  # of the smallest; wider models have heads of 32
UNBOUNDED = int(1e30)  # what transformers writes for "no limit"; the real Llama-2, Mistral and Gemma have it
BYTES = [f"<0x{value:02X}>" for value in range(256)]
MISTRAL_CONTROL = [
    *("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
]
# They follow Llama-3's vocabulary of 128,000, among reserved ones.
LLAMA3_CONTROL = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
]
# Llama-3 splits as Qwen does, but keeps up to three digits together.
LLAMA3_REGEX = PRETOKENIZE_REGEX.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# As Qwen's own template for plain conversations; the real one adds tool calls, which nothing here uses.
CHATML = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception(\"qwen3 chat template: unknown role '\" ~ message['role'] ~ \"'\") -}}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{{- '<|im_start|>assistant\\n' if add_generation_prompt else '' -}}"
)


def _corpus(path: Path) -> list[str]:
    texts: list[str] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            row = json.loads(line)
            texts += [row["question"], *row["sub_questions"]]
    numbers = "\n".join(f"{n}. " for n in range(1, 21))
    return [*texts, numbers, "Question: \nSub-questions:\n1. ", "### 질문: \n\n### 답변: 1. "]


def _piece_bpe(texts: list[str], specials: list[str], vocab_size: int) -> tuple[dict[str, int], list[Any]]:
    """Train a sentencepiece-like vocabulary: specials, the 256 byte tokens, merges, single characters."""
    room = max(vocab_size - len(specials) - len(BYTES), 64)
    # The rarer half of the characters is left to the bytes, as most Hangul is in Llama-2. Chosen here and
    # not by limit_alphabet, which breaks ties by hash order: two runs would differ. A newline is always
    # the byte <0x0A>, as in Llama-2, so no piece can join the prompt's last line to the answer.
    counts = collections.Counter(c for text in texts for c in text if not c.isspace())
    kept = {c for c, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: room // 2]}
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(split=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials + BYTES, initial_alphabet=["▁"], show_progress=False
    )
    lines = ("".join(c if c in kept else " " for c in line) for text in texts for line in text.splitlines())
    tokenizer.train_from_iterator(lines, trainer)
    return _model_of(tokenizer)


def _byte_bpe(texts: list[str], specials: list[str], vocab_size: int, regex: str | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    # Qwen2Tokenizer rebuilds its split when it is loaded, so the training uses the very same one.
    split: list[Any] = [pre_tokenizers.Split(Regex(regex), behavior="isolated")] if regex else []
    split.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _model_of(tokenizer: Tokenizer) -> tuple[dict[str, int], list[Any]]:
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _special(tokens: list[str]) -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=False) for token in tokens]


def _tokenizer(architecture: str, texts: list[str], vocab_size: int) -> PreTrainedTokenizerBase:
    options: dict[str, Any] = {"add_bos_token": True, "add_eos_token": False, "model_max_length": UNBOUNDED}
    if architecture in ("llama", "mistral"):
        control = MISTRAL_CONTROL if architecture == "mistral" else []
        vocab, merges = _piece_bpe(texts, ["<unk>", "<s>", "</s>", *control], vocab_size)
        side = "right" if architecture == "llama" else "left"
        options |= {"legacy": False, "padding_side": side}
        tokenizer: Any = transformers.LlamaTokenizer(vocab=vocab, merges=merges, **options)
        tokenizer.add_tokens(_special(control), special_tokens=True)
        return tokenizer
    if architecture == "gemma3_text":
        # <start_of_turn> and <end_of_turn> are 105 and 106 in the real one, behind a hundred unused tokens.
        turns = ["<start_of_turn>", "<end_of_turn>"]
        vocab, merges = _piece_bpe(texts, ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *turns], vocab_size)
        tokenizer = transformers.GemmaTokenizer(vocab=vocab, merges=merges, **options)
        tokenizer.add_tokens(_special(turns), special_tokens=True)
        return tokenizer
    if architecture == "qwen3":
        specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # they follow Qwen's vocabulary
        vocab, merges = _model_of(_byte_bpe(texts, [], vocab_size - len(specials), PRETOKENIZE_REGEX))
        vocab |= {token: len(vocab) + n for n, token in enumerate(specials)}
        tokenizer = transformers.Qwen2Tokenizer(
            vocab=vocab, merges=merges, unk_token=None, eos_token="<|im_end|>", model_max_length=131072
        )
        tokenizer.add_tokens(_special(specials), special_tokens=True)
        tokenizer.chat_template = CHATML
        return tokenizer
    if architecture == "llama3":
        backend = _byte_bpe(texts, [], vocab_size - len(LLAMA3_CONTROL), LLAMA3_REGEX)
        backend.normalizer = None
        backend.add_special_tokens(_special(LLAMA3_CONTROL))
        bos = LLAMA3_CONTROL[0]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
        # The instruction models end a turn, and have no pad token.
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token=bos, eos_token="<|eot_id|>", model_max_length=UNBOUNDED
        )
    # Polyglot-Ko: <|endoftext|> 2, <|sep|> 3, and <|acc|> <|tel|> <|rrn|> are the last three of its 30003
    # ids, which public fine-tuning code prints. What 0 and 1 hold could not be looked up, nor whether a pad
    # token is set; without one, as here, callers have to bring their own. No BOS is added.
    last = ["<|acc|>", "<|tel|>", "<|rrn|>"]
    first = ["<|unused0|>", "<|unused1|>", "<|endoftext|>", "<|sep|>"]
    backend = _byte_bpe(texts, first, vocab_size - len(last), None)
    backend.add_special_tokens(_special(last))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        extra_special_tokens=["<|sep|>", *last],
        padding_side="right",
        # The default of PreTrainedTokenizerFast up to transformers 4, so KoAlpaca gives token_type_ids there;
        # transformers 5 dropped them. Spelt out, because generate() of GPT-NeoX refuses them.
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


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
    if architecture in ("llama", "mistral"):
        common |= {"head_dim": head_dim, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2}
        if architecture == "llama":
            return transformers.LlamaConfig(**common, num_key_value_heads=heads, tie_word_embeddings=tie)
        rope = {"rope_type": "default", "rope_theta": 1e6}  # v0.3: a larger base instead of a sliding window
        common |= {"num_key_value_heads": heads // 2, "sliding_window": None, "rope_parameters": rope}
        return transformers.MistralConfig(**common)
    if architecture == "llama3":
        bos, eos = tokenizer.convert_tokens_to_ids(["<|begin_of_text|>", "<|eot_id|>"])
        rope = {"rope_type": "default", "rope_theta": 5e5}
        common |= {"head_dim": head_dim, "rms_norm_eps": 1e-5, "num_key_value_heads": heads // 2}
        return transformers.LlamaConfig(**common, rope_parameters=rope, bos_token_id=bos, eos_token_id=eos)
    if architecture == "gpt_neox":
        # The sizes in Polyglot-Ko's model card give rotary_pct 0.25 (64 of 256 dimensions) and 2048
        # positions. bos 0 and eos 2 are GPTNeoXConfig's defaults; its own config.json was out of reach.
        common |= {"vocab_size": padded, "intermediate_size": 4 * hidden, "max_position_embeddings": 2048}
        common |= {"rotary_pct": 0.25, "use_parallel_residual": True, "bos_token_id": 0, "eos_token_id": 2}
        return transformers.GPTNeoXConfig(**common)
    common |= {"head_dim": 2 * head_dim, "tie_word_embeddings": True}  # not hidden/heads, as in both
    if architecture == "qwen3":
        bos, eos = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
        rope = {"rope_type": "default", "rope_theta": 5e6}
        common |= {"vocab_size": padded, "num_key_value_heads": heads // 2, "rope_parameters": rope}
        return transformers.Qwen3Config(**common, bos_token_id=bos, eos_token_id=eos)
    # Every sixth layer and the last one attend to everything, as in the real one (18 layers, so both agree).
    # Its window is 512; 64 makes it matter in rows as short as the tests'.
    full = [n % 6 == 0 or n == layers for n in range(1, layers + 1)]
    kinds = ["full_attention" if this else "sliding_attention" for this in full]
    common |= {"num_key_value_heads": 1, "query_pre_attn_scalar": 2 * head_dim}
    common |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    return transformers.Gemma3TextConfig(**common, sliding_window=64, layer_types=kinds)


def _is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """True if OUT holds this very model; an error if it holds anything else."""
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
    """Write the model and its tokenizer to `out`; nothing to do if that same model is there already."""
    out = Path(out)
    settings = _settings(architecture, hidden_size, layers, vocab_size, seed, corpus, tie_embeddings)
    if _is_finished(out, settings):
        return
    tokenizer = _tokenizer(architecture, _corpus(corpus), vocab_size)
    config = _config(architecture, tokenizer, hidden_size, layers, tie_embeddings)
    with torch.random.fork_rng(devices=[]):  # a caller's own random numbers stay what they were
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
    if architecture == "qwen3":  # as the real generation_config.json: either token ends a generation
        ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        sampling = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=ends[1], eos_token_id=ends, pad_token_id=ends[1], **sampling
        )
    if architecture == "llama3":  # as those of public fine-tunes: it names the end of a document, not that of a turn
        bos, end = tokenizer.convert_tokens_to_ids(["<|begin_of_text|>", "<|end_of_text|>"])
        sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
        model.generation_config = transformers.GenerationConfig(bos_token_id=bos, eos_token_id=end, **sampling)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside OUT, so that the rename is one step on one file system: OUT is never seen half written.
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
