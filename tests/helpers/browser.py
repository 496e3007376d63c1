"""Start Chromium if it is installed."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page with")
