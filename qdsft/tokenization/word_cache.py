"""Token ids of rows from those of their words, for tokenizers that can be shown to read words independently.

A row is cut at single spaces between words, every distinct piece is tokenized once and remembered, and a row's
ids are those of its pieces in order. What all prompts begin with, up to a cut, is one piece. The ids are those of the
whole text because nothing a tokenizer of the two known kinds does reaches over such a cut:

- Byte-level BPE: its pattern never matches a space behind something else, so the cut lies between two matches, and
  merges stay within a match. NFC composes nothing with a space.
- BPE of SentencePiece form, where a space becomes a sign of its own: a merge over the cut would need a token of the
  vocabulary that holds this sign behind another character, and the vocabulary is searched for one.

Added tokens are found before all that. No cut touches one: there is none beside a character with which one of them
begins or ends, and one that could hold a cut rules pieces out. Any other tokenizer gets whole texts.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

from tokenizers import Tokenizer, models

SPACE = "▁"
"""What SentencePiece writes for a space (U+2581)."""
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {WORDS % r"\p{N}", WORDS % r"\p{N}{1,3}"}
"""The patterns of the byte-level tokenizers in use, with single digits and with three together."""
Pair = tuple[list[str], list[str]]
"""The pieces of a prompt and of its answer; the last and the first of them make one."""
Seam = tuple[str, str, bool, bool]
"""These two, and whether the text begins and ends with them."""
LEARNED = 100
"""Rows whose new pieces are tokenized in one call."""
REMEMBERED = 200_000
"""Pieces; with more, all are forgotten and learned again."""

TOKEN_BYTES = array("i").itemsize


def as_bytes(ids: Sequence[int]) -> bytes:
    """Token ids as the machine's own int32, one behind the other: joined faster than lists, and smaller."""
    return array("i", ids).tobytes()


class Pieces:
    """Tokenizes texts that are given in two parts, prompt and answer, through the ids of their pieces."""

    def __init__(self, backend: Tokenizer, cut: re.Pattern[str]) -> None:
        self._backend = backend
        self._cut = cut
        self._carrier = next(text for text in "ax0z" if cut.search(f"{text} {text}"))
        """A word before a piece makes it one that does not begin a text."""
        self._carried = len(backend.encode(self._carrier, add_special_tokens=False))
        # By where they stand: a piece has a cut on both sides, but for the first and last of a text.
        self._first: dict[str, bytes] = {}
        self._middle: dict[str, bytes] = {}
        self._last: dict[str, bytes] = {}
        self._seams: dict[Seam, tuple[bytes, int]] = {}
        self._lead = ""
        """What prompts begin with: a piece and the space behind it."""
        self._spaces = ((0, 0), (0, 0))
        """Those of the first and last pieces of prompt and answer, as last seen: most are the template's own."""

    @classmethod
    def of(cls, backend: Tokenizer | None) -> Pieces | None:
        """None if it cannot be shown that the tokenizer reads words independently."""
        cut = cut_of(backend) if backend is not None else None
        return cls(backend, cut) if backend is not None and cut and cut.search("a a") else None

    def encode(self, rows: Sequence[tuple[str, str]]) -> list[tuple[bytes, int]]:
        """Ids of prompt + answer (see `as_bytes`), and how many lie in the prompt, or -1 where one lies across."""
        encoded: list[tuple[bytes, int]] = []
        for start in range(0, len(rows), LEARNED):
            encoded += self._encode(rows[start : start + LEARNED])
        return encoded

    def whole(self, texts: Sequence[str]) -> list[bytes]:
        """Ids of texts that are not taken apart."""
        return [as_bytes(one.ids) for one in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _encode(self, rows: Sequence[tuple[str, str]]) -> list[tuple[bytes, int]]:
        found = [self._known(*self._guess(prompt, answer)) for prompt, answer in rows]
        new = [i for i, row in enumerate(found) if row is None]
        if new:
            self._lead = self._common([*([self._lead] if self._first else []), *(rows[i][0] for i in new)])
        pairs = [(self._split(rows[i][0]), self._cut.split(rows[i][1])) for i in new]
        self._learn(pairs)
        for i, pair in zip(new, pairs, strict=True):
            found[i] = self._known(*pair)
        return [row for row in found if row is not None]

    def _common(self, prompts: Sequence[str]) -> str:
        """What they all begin with, up to the last cut and its space."""
        first, last = min(prompts), max(prompts)
        same = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
        common = first[:same]
        cuts = [found.end() for found in self._cut.finditer(common)]
        return common[: cuts[-1]] if cuts else ""

    def _split(self, prompt: str) -> list[str]:
        lead = self._lead
        if lead and prompt.startswith(lead) and self._cut.match(prompt, len(lead) - 1):
            return [lead[:-1], *self._cut.split(prompt[len(lead) :])]
        return self._cut.split(prompt)

    def _guess(self, prompt: str, answer: str) -> Pair:
        """The pieces of most rows, several times as fast as the pattern; what is none of them is not known."""
        (first, last), (next_first, next_last) = self._spaces
        lead = self._lead
        if lead and prompt.startswith(lead):
            left = [lead[:-1], *_glued(prompt[len(lead) :].split(" "), 0, last)]
        else:
            left = _glued(prompt.split(" "), first, last)
        return left, _glued(answer.split(" "), next_first, next_last)

    def _known(self, left: list[str], right: list[str]) -> tuple[bytes, int] | None:
        """As `encode`, from pieces that were seen in the same places; None if one was not."""
        try:
            seam, before = self._seams[_seam(left, right)]
            prompt = self._first[left[0]] if len(left) > 1 else b""
            prompt += b"".join(map(self._middle.__getitem__, left[1:-1]))
            answer = b"".join(map(self._middle.__getitem__, right[1:-1]))
            if len(right) > 1:
                answer += self._last[right[-1]]
        except KeyError:
            return None
        return prompt + seam + answer, before + len(prompt) // TOKEN_BYTES if before >= 0 else -1

    def _learn(self, pairs: Sequence[Pair]) -> None:
        places: tuple[dict[Any, Any], ...] = (self._first, self._middle, self._last, self._seams)
        if sum(len(known) for known in places) > REMEMBERED:
            for pieces in places:
                pieces.clear()
        if pairs:
            prompt, answer = ((part[0].count(" "), part[-1].count(" ")) for part in pairs[-1])
            self._spaces = prompt, answer
        for first in {left[0] for left, _ in pairs if len(left) > 1} - self._first.keys():
            self._first[first] = as_bytes(self._backend.encode(first, add_special_tokens=False).ids)
        self._learn_between(chain.from_iterable([*left[1:-1], *right[1:-1]] for left, right in pairs))
        for last in {right[-1] for _, right in pairs if len(right) > 1} - self._last.keys():
            text = f"{self._carrier} {last}"
            self._last[last] = as_bytes(self._backend.encode(text, add_special_tokens=False).ids[self._carried :])
        for seam in {_seam(left, right) for left, right in pairs} - self._seams.keys():
            self._seams[seam] = self._across(seam)

    def _learn_between(self, pieces: Iterable[str]) -> None:
        """New pieces with a cut on both sides, as one text: far quicker than one by one."""
        new = list(set(pieces) - self._middle.keys())
        if not new:
            return
        encoding = self._backend.encode(" ".join([self._carrier, *new, self._carrier]), add_special_tokens=False)
        spaces = accumulate((len(piece) + 1 for piece in new), initial=len(self._carrier))
        starts = [start for start, _ in encoding.offsets]
        # A token that begins with the space before a piece, or behind it, is the first of the piece.
        bounds = [bisect_left(starts, space) * TOKEN_BYTES for space in spaces]
        ids = as_bytes(encoding.ids)
        self._middle.update((piece, ids[start:end]) for piece, (start, end) in zip(new, pairwise(bounds), strict=True))

    def _across(self, seam: Seam) -> tuple[bytes, int]:
        """The ids of the piece that holds the end of the prompt, and how many of them lie before it."""
        last, first, begins, _ = seam
        lead, carried = ("", 0) if begins else (f"{self._carrier} ", self._carried)
        encoding = self._backend.encode(lead + last + first, add_special_tokens=False)
        before = tokens_before(encoding, len(lead + last), len(lead + last + first))
        return as_bytes(encoding.ids[carried:]), before - carried if before >= 0 else -1


def _glued(words: list[str], first: int, last: int) -> list[str]:
    """Words of which the first and the last piece have so many spaces inside."""
    if first:
        words[: first + 1] = [" ".join(words[: first + 1])]
    if last and len(words) > 1:
        words[-last - 1 :] = [" ".join(words[-last - 1 :])]
    return words


def _seam(left: list[str], right: list[str]) -> Seam:
    return left[-1], right[0], len(left) == 1, len(right) == 1


def tokens_before(encoding: Any, boundary: int, end: int) -> int:
    """How many tokens of a text of `end` characters lie before a boundary; -1 if one lies across it."""
    if boundary >= end:
        return len(encoding)
    token = encoding.char_to_token(boundary)
    return token if token is not None and encoding.token_to_chars(token)[0] == boundary else -1


def cut_of(backend: Tokenizer) -> re.Pattern[str] | None:
    """Matches the single spaces at which a text can be cut; None if the tokenizer is of no known kind."""
    model = backend.model
    if not isinstance(model, models.BPE) or model.dropout:
        return None
    if model.continuing_subword_prefix or model.end_of_word_suffix:
        return None
    if not (_is_byte_level(backend) or _is_sentencepiece(backend)):
        return None
    added = [token.content for token in backend.get_added_tokens_decoder().values()]
    if any(" " in content and (content.strip(" ") or len(content) < 2) for content in added):
        return None
    ends = re.escape("".join(sorted({content[-1] for content in added} | {SPACE})))
    begins = re.escape("".join(sorted({content[0] for content in added} | {SPACE})))
    return re.compile(rf"(?<=[^\s{ends}]) (?=[^\s{begins}])")


def _is_byte_level(backend: Tokenizer) -> bool:
    steps = _steps(backend.pre_tokenizer, "pretokenizers")
    if not steps or not all(step == {"type": "NFC"} for step in _steps(backend.normalizer, "normalizers")):
        return False
    *before, last = steps
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return False
    if last["use_regex"]:
        return not before
    isolates = [step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"] for step in before]
    return isolates == [True] and before[0]["pattern"].get("Regex") in PATTERNS


def _is_sentencepiece(backend: Tokenizer) -> bool:
    """Spaces become SPACE, and nothing else happens to a text before its merges, but that one may come before it."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    normal = [step for step in _steps(backend.normalizer, "normalizers") if step["type"] != "Prepend"]
    steps = _steps(backend.pre_tokenizer, "pretokenizers")
    if normal == [replace]:
        known = all(step["type"] == "Split" and step["pattern"] == {"String": " "} for step in steps)
    else:
        known = not normal and len(steps) == 1 and steps[0]["type"] == "Metaspace" and steps[0]["replacement"] == SPACE
    if not known or backend.model.ignore_merges:
        return False
    vocabulary = backend.get_vocab(with_added_tokens=False)
    return SPACE in vocabulary and not any(SPACE in token.lstrip(SPACE) for token in vocabulary)


def _steps(component: Any, key: str) -> list[dict[str, Any]]:
    """What a normalizer or pre-tokenizer consists of, as in tokenizer.json."""
    if component is None:
        return []
    state: dict[str, Any] = json.loads(component.__getstate__())
    if state["type"] != "Sequence":
        return [state]
    parts: list[dict[str, Any]] = state[key]
    return [inner for part in parts for inner in (part[key] if part["type"] == "Sequence" else [part])]
