"""Tokenizers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_rows import TEMPLATES, load_with_template


@pytest.fixture(params=TEMPLATES)
def tokenizer(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Any:
    """One tokenizer for each kind of chat template."""
    return load_with_template(request.param, tiny_model)


@pytest.fixture
def llama(tiny_model: Callable[[str], Path]) -> Any:
    return load_with_template("llama2", tiny_model)
