"""Ids from words are those of the whole text, for every tokenizer that is taken apart, and others are not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.tokenization.length_limit import Encoder
from qdsft.tokenization.rows import RowMaker
from qdsft.tokenization.word_cache import PATTERNS, SPACE, Pieces, as_bytes, cut_of

ARCHITECTURES = ("llama", "llama3", "mistral", "gpt_neox", "qwen3", "gemma3_text")
WORDS = [
    *("Which", "films", "star", "#1", "2.", "after", "2005?", "it's", "don't", "A-b", "(x)", "é", "e\u0301", "\u0301"),
    *("이보", "렐이", "#2와", "\u1100\u1161", "가\n나", "x\n\n1.", "\t", "\u00a0", "\u3000", "\u200b", "\x1c"),
    *("▁", "a▁b", "▁▁", "<s>", "</s>", "<s", "s>", "[INST]", "[/INST]", "<|eot_id|>", "<|im_end|>", "<end_of_turn>"),
    *("", "", "\n", "\r\n", "1234567", "'S", "x" * 40),
]


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of a prompt and an answer made of whatever a tokenizer may treat in its own way."""
    chance = random.Random(seed)

    def text() -> str:
        return "".join(
            chance.choice(WORDS) + chance.choice([" ", " ", " ", "", "  "]) for _ in range(chance.randrange(12))
        )

    return [(text(), text()) for _ in range(count)]


def whole(backend: Tokenizer, rows: list[tuple[str, str]]) -> list[bytes]:
    encodings = backend.encode_batch([prompt + answer for prompt, answer in rows], add_special_tokens=False)
    return [as_bytes(encoding.ids) for encoding in encodings]


@pytest.fixture(params=ARCHITECTURES)
def backend(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model(request.param)).backend_tokenizer


def sentencepiece(
    normalizer: Any = None, pre_tokenizer: Any = None, extra: tuple[str, ...] = (), **options: Any
) -> Tokenizer:
    """A small tokenizer of Llama-2's form: characters, a few merges, and `extra` tokens merged from two others."""
    vocabulary = ["<unk>", SPACE, *"abcdef", "ab", f"{SPACE}a", f"{SPACE}ab", "cd", *extra]
    merges = [("a", "b"), (SPACE, "a"), (SPACE, "ab"), ("c", "d")]
    for token in extra:
        merges.append((token[: len(token) // 2], token[len(token) // 2 :]))
    ids = {token: number for number, token in enumerate(vocabulary)}
    made = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", **options))
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizer
    return made


REPLACE = normalizers.Replace(" ", SPACE)
PREPEND = normalizers.Sequence([normalizers.Prepend(SPACE), REPLACE])
KNOWN = {
    "legacy Llama": (PREPEND, None),
    "Gemma": (REPLACE, None),
    "Metaspace always": (None, pre_tokenizers.Metaspace(prepend_scheme="always", split=False)),
    "Metaspace, split": (None, pre_tokenizers.Metaspace(prepend_scheme="first", split=True)),
    "Metaspace never": (None, pre_tokenizers.Metaspace(prepend_scheme="never", split=False)),
}


def test_ids_and_lengths_are_those_of_the_whole(backend: Tokenizer) -> None:
    pieces = Pieces.of(backend)
    assert pieces is not None
    for seed in range(3):
        rows = texts(400, seed)
        found = pieces.encode(rows)
        assert [ids for ids, _ in found] == whole(backend, rows)
        for (prompt, answer), (_, before) in zip(rows, found, strict=True):
            if before >= 0:
                alone = backend.encode(prompt + answer, add_special_tokens=False)
                ends = [end for span in map(alone.token_to_chars, range(before)) if span for end in span[1:]]
                starts = [span[0] for span in map(alone.token_to_chars, range(before, len(alone))) if span]
                assert max(ends, default=0) <= len(prompt) <= min(starts, default=len(prompt))


@pytest.mark.parametrize("form", KNOWN)
def test_other_forms_of_sentencepiece_too(form: str) -> None:
    backend = sentencepiece(*KNOWN[form])
    backend.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("[x]", normalized=False)])
    pieces = Pieces.of(backend)
    assert pieces is not None
    chance = random.Random(0)
    rows = [
        ("".join(chance.choices("abcd \n<s>[x]", k=30)), "".join(chance.choices(["ab", " ", "<s>", "[x]", "cd"], k=9)))
        for _ in range(2000)
    ]
    assert [ids for ids, _ in pieces.encode(rows)] == whole(backend, rows)


def test_most_spaces_of_plain_text_are_cuts(backend: Tokenizer) -> None:
    cut = cut_of(backend)
    assert cut and len(cut.split("Which films star Bram Dorn, and 이보 렐 too?")) == 9
    assert cut.split("two  spaces, a\n break </s> and [INST] [/INST] x")[0] == "two  spaces,"


def byte_level(pattern: str | None = None, *, prefix: bool = False) -> Tokenizer:
    made = Tokenizer(models.BPE({"a": 0, "Ġ": 1, "Ġa": 2}, [("Ġ", "a")]))
    last = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)
    first = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    made.pre_tokenizer = pre_tokenizers.Sequence([*first, last])
    return made


def with_token(backend: Tokenizer, content: str) -> Tokenizer:
    backend.add_tokens([content])
    return backend


REFUSED = {
    "a token reaches over a space": lambda: sentencepiece(REPLACE, extra=(f"b{SPACE}",)),
    "spaces stay": lambda: sentencepiece(),
    "lower case": lambda: sentencepiece(normalizers.Sequence([normalizers.Lowercase(), REPLACE])),
    "digits": lambda: sentencepiece(
        None, pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Digits()])
    ),
    "dropout": lambda: sentencepiece(REPLACE, dropout=0.1),
    "whole words first": lambda: sentencepiece(REPLACE, ignore_merges=True),
    "another pattern": lambda: byte_level(r"\w+ \w+|."),
    "a space before all": lambda: byte_level(prefix=True),
    "an added token with a space": lambda: with_token(byte_level(), "a b"),
    "an added token that begins with one": lambda: with_token(byte_level(), " b"),
    "no BPE": lambda: Tokenizer(models.WordLevel({"a": 0}, "a")),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_may_read_over_a_cut_is_not_taken_apart(why: str) -> None:
    assert Pieces.of(REFUSED[why]()) is None


def test_the_ones_beside_them_are() -> None:
    assert all(Pieces.of(byte_level(pattern)) for pattern in [None, *PATTERNS])
    assert Pieces.of(with_token(byte_level(), "   ")), "of spaces alone, and more than one"
    assert Pieces.of(None) is None


def test_more_pieces_than_are_remembered(backend: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qdsft.tokenization.word_cache.REMEMBERED", 20)
    pieces = Pieces.of(backend)
    assert pieces is not None
    rows = texts(600, 7)
    assert [ids for ids, _ in pieces.encode(rows)] == whole(backend, rows)


def examples(count: int) -> list[Example]:
    return [
        Example(Record({}, f"t:{n}"), ({"role": "user", "content": f"ab ab\n{n} cd"},), f"cd ab {n}")
        for n in range(count)
    ]


def test_a_tokenizer_that_reads_over_cuts_after_all_is_noticed_at_once(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is planted: cuts at line breaks too, so that pieces have other ids than the whole."""
    import re

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model("llama"))
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{{ eos_token if m.role == 'assistant' else '\n' }}{% endfor %}"
    )
    maker = RowMaker(tokenizer, [tokenizer.eos_token_id])
    rows = Encoder(maker, None, "error").encode(examples(300))
    monkeypatch.setattr(Pieces, "of", lambda backend: Pieces(backend, re.compile("[ \n]")))
    wrong = RowMaker(tokenizer, [tokenizer.eos_token_id])
    assert wrong._seams._pieces is not None
    assert [row.input_ids for row, _ in Encoder(wrong, None, "error").encode(examples(300))] == [
        row.input_ids for row, _ in rows
    ]
    assert wrong._seams._pieces is None, "the text is tokenized whole from then on"
