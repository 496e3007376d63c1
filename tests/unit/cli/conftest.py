"""What the tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def bare_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a new folder with r.yaml, the shortest recipe."""
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("model:\n  name_or_path: user/model\ndata:\n  train: t.jsonl\n", encoding="utf-8")
