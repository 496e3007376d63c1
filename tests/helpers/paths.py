"""Folders that tests read."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
RECIPES = ROOT / "recipes"
TEST_DATA = Path(os.environ.get("QDSFT_TEST_DATA") or ROOT / "no-test-data")
"""Real data sets, which are not part of the checkout. Tests that need a missing one skip."""
