"""The chat template of a tokenizer: the date that it writes, and the file that it comes from."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from pathlib import Path

from transformers import PreTrainedTokenizerBase

MACRO = "{% macro strftime_now(format) %}"
"""How a template with a fixed date begins. The macro replaces transformers' function of the same name."""
CODES = [f"%-{code}" for code in "dmyHIMSj"] + [f"%{code}" for code in "aAbBcCdDeFGhHIjmMpRSTuUVwWxXyYfzZ"] + ["%%"]
"""What strftime replaces."""


def name_template(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Remember the file of the tokenizer's chat template for error messages."""
    tokenizer.template_file = str(path)


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the file of the chat template, or the model that it belongs to."""
    return str(getattr(tokenizer, "template_file", f"of {tokenizer.name_or_path}"))


def writes_date(template: str) -> bool:
    """Return whether a chat template writes the date of the day on which it is rendered."""
    return "strftime_now" in template and not has_fixed_date(template)


def has_fixed_date(template: str) -> bool:
    """Return whether `with_fixed_date` made this template."""
    return template.startswith(MACRO)


def with_fixed_date(template: str, day: date) -> str:
    """Return a chat template that always writes `day`, at midnight; other templates are returned unchanged.

    The date becomes part of the template, so every program that renders the template writes the same date.
    """
    if not writes_date(template):
        return template
    moment = datetime.combine(day, time())
    values = {code: moment.strftime(code) for code in CODES}
    replaced = "".join(f"|replace({json.dumps(code)},{json.dumps(value)})" for code, value in values.items())
    # The line break keeps what Jinja does with blanks at the start of the template.
    return f"{MACRO}{{{{ format{replaced} }}}}{{% endmacro %}}\n{template}"
