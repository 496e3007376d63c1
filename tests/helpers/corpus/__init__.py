"""A generator of small hostile cases: a damaged file or a wrong argument, and the command that meets it."""

from __future__ import annotations

from helpers.corpus.case import Case
from helpers.corpus.inputs import input_cases
from helpers.corpus.models import model_cases
from helpers.corpus.own_files import own_file_cases


def all_cases() -> dict[str, list[Case]]:
    """Return the cases by kind, the same each time."""
    kinds: dict[str, list[Case]] = {}
    for case in [*input_cases(), *own_file_cases(), *model_cases()]:
        kinds.setdefault(case.kind, []).append(case)
    return kinds
