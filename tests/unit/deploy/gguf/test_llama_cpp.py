"""llama.cpp in a separate process."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from qdsft.deploy.gguf import llama_cpp
from qdsft.errors import UserError


def test_the_engine_says_why_a_file_cannot_be_used(tmp_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("pip install xllamacpp")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"llama.cpp cannot use the file"):
        llama_cpp.ask(tmp_path / "x.gguf", [[{"role": "user", "content": "Who?"}]])
