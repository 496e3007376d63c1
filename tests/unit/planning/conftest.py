"""Plans made of a plain tracer: what the planner does with traces, in milliseconds."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.plain_tracer import PlainTracer

from qdsft.planning.cards import Target
from qdsft.planning.peak import GIB
from qdsft.planning.plan import Plan, make_plan


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, synthetic_corpus: Any) -> Any:
    """Plan a recipe, given by its path, with overrides, on GPUs of `memory` GiB."""
    monkeypatch.chdir(ROOT)

    def make(recipe: str, *overrides: str, memory: float = 8, **target: Any) -> Plan:
        return make_plan(recipe, overrides, Target(int(memory * GIB), **target), lambda *_: PlainTracer())

    return make
