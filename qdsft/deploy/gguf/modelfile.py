"""Write Ollama's Modelfile for a run: the fixed pieces of its chat template in Ollama's syntax.

Experimental: the file was never used with Ollama.
"""

from __future__ import annotations

import json
from pathlib import Path

from qdsft.data.prompt import Message
from qdsft.errors import UserError
from qdsft.inference.loaded_run import RunPrompts
from qdsft.tokenization.chat_template import render_texts

SYSTEM, USER = "qdsftsystemqdsft", "qdsftuserqdsft"
"""Placeholders that chat templates leave unchanged."""


def modelfile(run: RunPrompts, weights: Path, *, add_bos: bool) -> str:
    """Return the text of a Modelfile beside the file `weights`.

    Without a TEMPLATE that gives the golden prompts their trained text, the Modelfile has a remark instead. With
    `add_bos`, BOS is added to every prompt, so the template does not write it.
    """
    lines = [f"FROM ./{weights.name}"]
    template = _template(run, add_bos=add_bos)
    if template is None:
        lines += ["# No TEMPLATE: the run's chat template is not a fixed text around a system and a user message."]
    else:
        lines += [f'TEMPLATE """{template}"""']
    systems = {golden.messages[0]["content"] for golden in run.manifest.golden_prompts if len(golden.messages) > 1}
    if len(systems) == 1 and '"""' not in (system := systems.pop()):
        lines += [f'SYSTEM """{system}"""']
    for stop in run.tokenizer.convert_ids_to_tokens(run.manifest.stop_token_ids):
        lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}"]
    # Greedy, as in evaluation. Ollama's default repeat_penalty is above 1.
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1", f"PARAMETER num_predict {run.max_new_tokens}"]
    return "\n".join(lines) + "\n"


def pieces(run: RunPrompts, *, add_bos: bool) -> tuple[str, str, str, str] | None:
    """Return the fixed text of the chat template: before the system message, between it and the user message, before a
    user message without a system message, and after the user message. None if the template has no such fixed text, or
    if it does not give the golden prompts.
    """
    system, user = {"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}
    try:
        both, alone = render_texts(run.tokenizer, [[system, user], [user]], add_generation_prompt=True)
    except UserError:
        return None
    if both.count(SYSTEM) != 1 or both.count(USER) != 1 or alone.count(USER) != 1:
        return None
    before, _, rest = both.partition(SYSTEM)
    between, _, behind = rest.partition(USER)
    start, _, end = alone.partition(USER)
    if end != behind or USER in before:
        return None
    bos = run.tokenizer.bos_token
    if add_bos and bos:
        before, start = before.removeprefix(bos), start.removeprefix(bos)
    found = before, between, start, behind
    golden = [golden.messages for golden in run.manifest.golden_prompts]
    texts = render_texts(run.tokenizer, golden, add_generation_prompt=True)
    lead = bos if add_bos and bos else ""
    filled = [_fill(found, messages) for messages in golden]
    same = [text is not None and lead + text == wanted for text, wanted in zip(filled, texts, strict=True)]
    return found if all(same) else None


def _fill(found: tuple[str, str, str, str], messages: list[Message]) -> str | None:
    """Return Ollama's prompt for a user message with or without a system message; None for other messages."""
    before, between, start, behind = found
    roles = [message["role"] for message in messages]
    if roles == ["system", "user"]:
        return before + messages[0]["content"] + between + messages[1]["content"] + behind
    return start + messages[0]["content"] + behind if roles == ["user"] else None


def _template(run: RunPrompts, *, add_bos: bool) -> str | None:
    found = pieces(run, add_bos=add_bos)
    if found is None or any('"""' in piece for piece in found):
        return None
    before, between, start, behind = (piece.replace("{{", '{{ "{{" }}') for piece in found)
    with_system = f"{before}{{{{ .System }}}}{between}"
    return f"{{{{ if .System }}}}{with_system}{{{{ else }}}}{start}{{{{ end }}}}{{{{ .Prompt }}}}{behind}"
