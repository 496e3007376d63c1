"""Replies of a teacher with one fault each, made from a right decomposition."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from qdsft.data.decomposition import numbered
from qdsft.deploy.endpoint import MOST_BYTES

TOKEN = "sk-secret-0123456789"
ADVERT = ["Which offer on cheap-pills dot example fits you?", "How do you pay for #1?"]

Reply = tuple[int, object]
"""Status and content, as `stub_server` takes them."""


def said(text: str, finish: str | None = "stop") -> Reply:
    """Return the reply of a server whose model wrote `text`."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 20}}


def put(mark: str) -> Callable[[Sequence[str]], str]:
    """Return a function that writes `mark` into the last step."""
    return lambda steps: numbered([*steps[:-1], f"{steps[-1][:-1]}{mark}?"])


TEXTS: dict[str, Callable[[Sequence[str]], str]] = {
    "nothing": lambda steps: "",
    "white space": lambda steps: " \n\t\n ",
    "prose": lambda steps: "First find " + " and then ".join(steps),
    "a polite beginning": lambda steps: "Sure! Here are the sub-questions:\n" + numbered(steps),
    "a polite end": lambda steps: numbered(steps) + "\nI hope this helps!",
    "a code fence": lambda steps: f"```\n{numbered(steps)}\n```",
    "JSON": lambda steps: json.dumps(list(steps)),
    "bullets": lambda steps: "\n".join(f"- {step}" for step in steps),
    "brackets": lambda steps: "\n".join(f"{i}) {step}" for i, step in enumerate(steps, 1)),
    "markdown": lambda steps: "\n".join(f"**{i}.** {step}" for i, step in enumerate(steps, 1)),
    "numbered twice": lambda steps: numbered([f"{i}. {step}" for i, step in enumerate(steps, 1)]),
    "numbered from 0": lambda steps: "\n".join(f"{i}. {step}" for i, step in enumerate(steps)),
    "a number left out": lambda steps: numbered(steps).replace("\n2. ", "\n3. "),
    "the answers, too": lambda steps: "\n".join(f"{i}. {step}\nAnswer: 42" for i, step in enumerate(steps, 1)),
    "unfinished thoughts": lambda steps: "<think>\nThe question asks for a river.\n" + numbered(steps),
    "thoughts in a step": put(" <think>"),
    "reference to a missing step": put(" #9"),
    "reference to a huge step": put(" #" + "9" * 5000),
    "reference to itself": lambda steps: numbered([f"{steps[0][:-1]} #1?", *steps[1:]]),
    "reference forward": lambda steps: numbered([f"{steps[0][:-1]} #2?", *steps[1:]]),
    "an empty step": lambda steps: numbered([*steps[:-1], "", steps[-1]]),
    "one step": lambda steps: numbered(steps[:1]),
    "a repeated step": lambda steps: numbered([*steps, steps[0]]),
    "an unused step": lambda steps: numbered([steps[0], *steps]),
    "two questions in a step": lambda steps: numbered([f"{steps[0]} What is its name?", *steps[1:]]),
    "another language": lambda steps: numbered(
        ["그 질문의 첫 번째 부분은 무엇인가요?", "#1은 언제 어디에서 태어났나요?"]
    ),
    "lost characters": put("\ufffd"),
    "an escape sequence": put("\x1b[2J"),
    "a NUL": put("\x00"),
    "a C1 control": put("\x9b"),
    "a right-to-left override": put("\u202e"),
    "a zero-width space": put("\u200b"),
    "invisible tags": put("\U000e0041\U000e0042"),
    "a line separator": put("\u2028"),
    "a private character": put("\ue000"),
    "</s>": put("</s>"),
    "<|im_end|>": put("<|im_end|>"),
    "<｜end▁of▁sentence｜>": put("<｜end▁of▁sentence｜>"),
    "[|endofturn|]": put("[|endofturn|]"),
    "[INST]": put("[INST]"),
    "<start_of_turn>": put("<start_of_turn>"),
    "<<SYS>>": put("<<SYS>>"),
    "an advert": lambda steps: numbered(ADVERT),
    "many steps": lambda steps: numbered([*steps[:1], *(f"{steps[0][:-1]} {i}?" for i in range(60)), "And #1?"]),
    "the token": put(" " + TOKEN),
}
"""Kind -> what the model writes instead of the steps."""

GOOD = b'{"choices": [{"message": {"content": "1. a"}}]'
REPLIES: dict[str, Reply] = {
    "no JSON": (200, b"1. Which river is it?"),
    "nothing at all": (200, b""),
    "HTML": (200, b"<html><body>Bad gateway</body></html>"),
    "a list": (200, []),
    "null": (200, None),
    "an error with status 200": (200, {"error": {"message": "the model is gone"}}),
    "no choices": (200, {"choices": []}),
    "an empty choice": (200, {"choices": [{}]}),
    "no content": (200, {"choices": [{"message": {"content": None}}]}),
    "content of numbers": (200, {"choices": [{"message": {"content": 5}}]}),
    "content of parts": (200, {"choices": [{"message": {"content": [{"text": "1. a"}]}}]}),
    "choices of another type": (200, {"choices": {"0": {"message": {"content": "1. a"}}}}),
    "half a surrogate pair": (200, b'{"choices": [{"message": {"content": "1. \\ud800"}}]}'),
    "text after the object": (200, GOOD + b"} {}"),
    "a stream": (200, b'data: {"choices": [{"delta": {"content": "1. a"}}]}\n\ndata: [DONE]\n\n'),
    "nested lists": (200, b"[" * 100_000),
    "nested objects": (200, b'{"choices": ' * 50_000),
    "a huge number": (200, GOOD + b', "usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}"),
    "negative tokens": (200, GOOD + b', "usage": {"prompt_tokens": 1, "completion_tokens": -1}}'),
    "tokens as text": (200, GOOD + b', "usage": {"prompt_tokens": "1"}}'),
    "more text than tokens": said("1. " + "a" * 40_000),
    "a huge reply": (200, b" " * (MOST_BYTES + 1)),
    "UTF-16": (200, json.dumps({"choices": []}).encode("utf-16")),
    "a compressed reply": (
        0,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + b"\x1f\x8b" + b"\0" * 18,
    ),
    "a refused prompt": (400, {"error": {"message": "content policy"}}),
    "a prompt that is too long": (413, b""),
    "unprocessable": (422, {"detail": [{"msg": "extra fields"}]}),
}
"""Kind -> what the server replies to the question."""
