"""Train the small tokenizers of make_tiny_model.py."""

from __future__ import annotations

import collections
import importlib.util
import json
from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

UNBOUNDED = int(1e30)  # what transformers writes for "no limit"; the real Llama-2, Mistral and Gemma have it
BYTES = [f"<0x{value:02X}>" for value in range(256)]
MISTRAL_CONTROL = [
    *("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
]
# In Llama-3 they follow the vocabulary of 128,000, among reserved tokens.
LLAMA3_CONTROL = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
]
# Llama-3 splits text as Qwen does, but keeps up to three digits together.
LLAMA3_REGEX = PRETOKENIZE_REGEX.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# Ministral's tokenizer (tekken) begins with its control tokens; only those of a plain conversation are listed.
TEKKEN_CONTROL = ["<unk>", "<s>", "</s>", *MISTRAL_CONTROL, "<pad>"]
# EXAONE 4's control tokens; their order is not confirmed. Thinking tags are not special, so they are decoded as text.
EXAONE_CONTROL = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"]
THINKING = ["<think>", "</think>"]
# EXAONE 4's format, from the documentation of transformers. Without enable_thinking the thinking block is empty.
EXAONE_TEMPLATE = (
    "{%- set opened = '<think>\n' if enable_thinking is defined and enable_thinking else '<think>\n\n</think>\n\n' -%}"
    "{%- for message in messages -%}"
    "{{- '[|' + message['role'] + '|]\n' -}}"
    "{{- '<think>\n\n</think>\n\n' if message['role'] == 'assistant' and loop.last else '' -}}"
    "{{- message['content'] + '[|endofturn|]\n' -}}"
    "{%- endfor -%}"
    "{{- '[|assistant|]\n' + opened if add_generation_prompt else '' -}}"
)
# HyperCLOVA X SEED's control tokens; their order is not confirmed.
HYPERCLOVA_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|endofturn|>", "<|stop|>"]
# The format that NAVER documents for SEED models: an empty list of tools first, and <|endofturn|> after an answer.
HYPERCLOVA_TEMPLATE = (
    "{{- '<|im_start|>tool_list\n<|im_end|>\n' -}}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' -}}"
    "{{- '<|endofturn|>\n' if message['role'] == 'assistant' else '\n' -}}"
    "{%- endfor -%}"
    "{{- '<|im_start|>assistant\n' if add_generation_prompt else '' -}}"
)
CONTROL_FIRST: dict[str, tuple[list[str], str | None, str, str]] = {
    "ministral": (TEKKEN_CONTROL, "<s>", "</s>", "<pad>"),
    "exaone4": ([*EXAONE_CONTROL, *THINKING], "[BOS]", "[|endofturn|]", "[PAD]"),
    "hyperclovax": (HYPERCLOVA_CONTROL, None, "<|endofturn|>", "<|endoftext|>"),
}
"""Architecture -> control tokens, which come first in the vocabulary; BOS, EOS and padding among them."""
SHIPPED_TEMPLATES = {
    "llama3_2": "llama3_2",
    "kanana": "llama3",
    "gemma3": "gemma3",
    "qwen3_thinking": "qwen3",
}
"""Architecture -> its chat template among TRL's. It is not confirmed that Kanana has Llama 3's."""
# Qwen's own template for plain conversations, without tool calls.
CHATML = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception(\"qwen3 chat template: unknown role '\" ~ message['role'] ~ \"'\") -}}"
    "{%- endif -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{{- '<|im_start|>assistant\\n' if add_generation_prompt else '' -}}"
)


def _piece_bpe(texts: list[str], specials: list[str], vocab_size: int) -> tuple[dict[str, int], list[Any]]:
    """Train a sentencepiece-like vocabulary: specials, the 256 byte tokens, merges, single characters."""
    room = max(vocab_size - len(specials) - len(BYTES), 64)
    # The rarer half of the characters is encoded as bytes, like most Hangul in Llama-2. limit_alphabet is not used,
    # because it breaks ties by hash order and two runs would differ. A newline is always the byte <0x0A>, as in
    # Llama-2, so no token can span the prompt's last line and the answer.
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
    # Qwen2Tokenizer rebuilds its split when it is loaded, so the training must use the same split.
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


def make_tokenizer(architecture: str, texts: list[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Return a tokenizer that is trained on the texts and behaves like the real family's."""
    tokenizer = _tokenizer(architecture, texts, vocab_size)
    if architecture in SHIPPED_TEMPLATES:
        tokenizer.chat_template = shipped_template(SHIPPED_TEMPLATES[architecture])
    return tokenizer


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
    if architecture in ("gemma3_text", "gemma3"):
        # In the real tokenizer, <start_of_turn> and <end_of_turn> are 105 and 106, after a hundred unused tokens.
        turns = ["<start_of_turn>", "<end_of_turn>"]
        vocab, merges = _piece_bpe(texts, ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *turns], vocab_size)
        tokenizer = transformers.GemmaTokenizer(vocab=vocab, merges=merges, **options)
        tokenizer.add_tokens(_special(turns), special_tokens=True)
        return tokenizer
    if architecture in ("qwen3", "qwen3_thinking"):
        specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # they follow Qwen's vocabulary
        thinking = THINKING if architecture == "qwen3_thinking" else []
        vocab, merges = _model_of(_byte_bpe(texts, [], vocab_size - len(specials + thinking), PRETOKENIZE_REGEX))
        vocab |= {token: len(vocab) + n for n, token in enumerate(specials + thinking)}
        tokenizer = transformers.Qwen2Tokenizer(
            vocab=vocab, merges=merges, unk_token=None, eos_token="<|im_end|>", model_max_length=131072
        )
        tokenizer.add_tokens(_special(specials), special_tokens=True)
        tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in thinking])
        tokenizer.chat_template = CHATML
        return tokenizer
    if architecture in CONTROL_FIRST:
        return _control_first(architecture, texts, vocab_size)
    if architecture in ("llama3", "llama3_2", "kanana"):
        backend = _byte_bpe(texts, [], vocab_size - len(LLAMA3_CONTROL), LLAMA3_REGEX)
        backend.normalizer = None
        backend.add_special_tokens(_special(LLAMA3_CONTROL))
        bos = LLAMA3_CONTROL[0]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
        # The EOS token of the instruction models ends a turn. They have no pad token.
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token=bos, eos_token="<|eot_id|>", model_max_length=UNBOUNDED
        )
    # Polyglot-Ko has <|endoftext|> 2 and <|sep|> 3, and <|acc|> <|tel|> <|rrn|> are the last three of its 30003 ids
    # (printed by public fine-tuning code). Tokens 0 and 1 and the pad token could not be looked up. This tokenizer
    # has no pad token, so callers must set one. No BOS is added.
    last = ["<|acc|>", "<|tel|>", "<|rrn|>"]
    first = ["<|unused0|>", "<|unused1|>", "<|endoftext|>", "<|sep|>"]
    backend = _byte_bpe(texts, first, vocab_size - len(last), None)
    backend.add_special_tokens(_special(last))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        extra_special_tokens=["<|sep|>", *last],
        padding_side="right",
        # The default of PreTrainedTokenizerFast up to transformers 4, which returns token_type_ids for KoAlpaca.
        # transformers 5 dropped them. Set explicitly, because generate() of GPT-NeoX refuses them.
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _control_first(architecture: str, texts: list[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Return a byte-level tokenizer whose control tokens come first."""
    control, bos, eos, pad = CONTROL_FIRST[architecture]
    backend = _byte_bpe(texts, control, vocab_size, LLAMA3_REGEX)
    backend.normalizer = None
    backend.add_special_tokens(_special([token for token in control if token not in THINKING]))
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in control if token in THINKING])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=pad, model_max_length=UNBOUNDED
    )
    tokenizer.chat_template = {"exaone4": EXAONE_TEMPLATE, "hyperclovax": HYPERCLOVA_TEMPLATE}.get(architecture)
    return tokenizer


def shipped_template(name: str) -> str:
    """Return one of the chat templates by which TRL recognises models."""
    spec = importlib.util.find_spec("trl")  # importing it takes seconds
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
