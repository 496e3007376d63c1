"""A chat template that writes the date, and a way to set the date."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

import pytest
import transformers.utils.chat_template_utils as theirs

from qdsft.model import loading
from qdsft.training import resume

DATED = (
    "{%- set today = strftime_now('%d %b %Y') -%}{{ bos_token }}Today: {{ today }}\n"
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
)


def set_day(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    """Set the date that transformers and qdsft see, at midnight."""

    class Moment(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.combine(day, time())

    class Day(date):
        @classmethod
        def today(cls) -> Any:
            return day

    monkeypatch.setattr(theirs, "datetime", Moment)
    for module in (loading, resume):
        monkeypatch.setattr(module, "date", Day)
