"""Markup from the Jinja templates in `templates/`: every value is escaped unless it is markup itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from qdsft.scoring.report.text import clean


def render(template: str, **values: object) -> Markup:
    """Return a template of this package filled with values. Text is escaped; Markup, which `render` returns, is not."""
    return Markup(_ENVIRONMENT.get_template(template).render(**values).strip())


def _finalize(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _short(value: float) -> str:
    return f"{round(value, 1):g}"


TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_finalize,
)
_ENVIRONMENT.filters["short"] = _short
