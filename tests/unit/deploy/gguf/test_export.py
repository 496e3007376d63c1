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


def test_runs_that_cannot_be_exported_are_refused(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_run(tmp_path / "adapter", tiny_model("llama"), lora_scale=0.1)
    with pytest.raises(UserError, match=r"holds a whole model; merge it with: qdsft merge .*, and export DIR"):
        export_gguf(adapter, tmp_path / "a.gguf")
    whole = make_run(tmp_path / "whole", tiny_model("gpt_neox"))
    (tmp_path / "a.Modelfile").touch()
    with pytest.raises(UserError, match=r"a\.Modelfile exists; delete it"):
        export_gguf(whole, tmp_path / "a.gguf")
    pytest.importorskip("gguf")
    pytest.importorskip("sentencepiece")
    for body, expected in (
        ("sys.exit('no such architecture')", "cannot convert this model: no such architecture; a newer llama.cpp may"),
        ("pass", "cannot convert this model: it printed nothing"),
    ):
        with pytest.raises(UserError, match=expected):
            export_gguf(whole, tmp_path / "b.gguf", converter=converter_in(tmp_path, body))
    with pytest.raises(UserError, match=r"no such file; give llama.cpp's convert_hf_to_gguf.py"):
        export_gguf(whole, tmp_path / "b.gguf", converter=tmp_path / "gone.py")
    assert not [path for path in tmp_path.iterdir() if "b.gguf" in path.name or path.name.endswith(".tmp")]
    with pytest.raises(
        UserError, match=r"requires llama\.cpp's converter; .*--converter llama\.cpp/convert_hf_to_gguf"
    ):
        export_gguf(whole, tmp_path / "b.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"requires gguf; install with: pip install -e '\S+\[gguf\]'"):
        export_gguf(whole, tmp_path / "b.gguf", converter=converter_in(tmp_path, "pass"))


def test_the_converter_is_the_one_that_was_given(tmp_path: Path) -> None:
    program = tmp_path / "convert-hf-to-gguf"
    program.touch()
    assert find_converter(converter_in(tmp_path, "")) == [sys.executable, str(tmp_path / "convert.py")]
    assert find_converter(program) == [str(program)]


def test_no_half_file_is_left(tiny_model: TinyModel, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    whole = make_run(tmp_path / "whole", tiny_model("gpt_neox"))
    body = "open(sys.argv[sys.argv.index('--outfile') + 1], 'w').write('GGUF')"
    with pytest.raises(UserError, match="not a GGUF file"):
        export_gguf(whole, tmp_path / "out" / "b.gguf", converter=converter_in(tmp_path, body))
    assert list((tmp_path / "out").iterdir()) == []
