"""What a library raises for a damaged file becomes one line that names the file and a fitting remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from qdsft.errors import UserError
from qdsft.model.device_errors import device_errors
from qdsft.model.foreign_files import Part, damaged_file, foreign_errors

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n"
WHOLE = save({"w": torch.ones(9)})


@pytest.mark.parametrize(
    ("part", "name", "content", "message"),
    [
        ("config.json", "config.json", LFS, "config.json is a Git LFS pointer, not the file; run git lfs pull"),
        ("config.json", "config.json", b"", "config.json is empty; download"),
        ("config.json", "config.json", b"[]", "config.json is not a JSON object; download"),
        ("config.json", "config.json", b"{", "config.json is not JSON; download"),
        ("config.json", "config.json", b"[" * 100_000, "config.json is not JSON; download"),
        ("tokenizer", "tokenizer.json", LFS, "tokenizer.json is a Git LFS pointer"),
        ("tokenizer", "tokenizer.model", LFS, "tokenizer.model is a Git LFS pointer"),
        ("tokenizer", "chat_template.jinja", "서울".encode("cp949"), "chat_template.jinja is not UTF-8; download"),
        ("weights", "model.safetensors", LFS, "model.safetensors is a Git LFS pointer"),
        ("weights", "model.safetensors", WHOLE[:-1], "model.safetensors is cut or damaged"),
        ("weights", "model-00001-of-00002.safetensors", b"", "model-00001-of-00002.safetensors is empty"),
        ("weights", "pytorch_model.bin", LFS, "pytorch_model.bin is a Git LFS pointer"),
        ("weights", "model.safetensors.index.json", b"null", "index.json is not a JSON object"),
        ("adapter", "adapter_config.json", b"7", "adapter_config.json is not a JSON object"),
        ("adapter", "adapter_model.safetensors", b"x" * 99, "adapter_model.safetensors is cut or damaged"),
    ],
)
def test_the_damaged_file_is_named(tmp_path: Path, part: Part, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in (damaged_file(tmp_path, part) or "")
    with pytest.raises(UserError, match="cannot be loaded") as error, foreign_errors(part, tmp_path):
        raise AttributeError("'NoneType' object has no attribute 'get'")
    assert message in str(error.value) and "NoneType" not in str(error.value)


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    assert (damaged_file(tmp_path, "weights") or "").startswith("model.safetensors cannot be read (Is a directory)")


def test_whole_files_are_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "added_tokens.json").write_text("[]")
    (tmp_path / "model.safetensors").write_bytes(WHOLE)
    for part in ("config.json", "tokenizer", "weights", "adapter"):
        assert damaged_file(tmp_path, part) is None
    assert damaged_file(tmp_path / "user/model-on-the-hub", "weights") is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Exception("data did not match any variant of untagged enum ModelUntagged"), "a newer release than tokenizers"),
        (Exception("Unknown tokenizer version '9.0'"), "a newer release than tokenizers"),
        (KeyError("nope"), "KeyError 'nope' (remedy)"),
        (TypeError("unhashable"), "TypeError unhashable (remedy)"),
        (EOFError(), "EOFError (remedy)"),
        (ValueError("first\nsecond"), "first second (remedy)"),
        (OSError("x" * 5000), "... (remedy)"),
    ],
)
def test_any_exception_is_one_line(tmp_path: Path, error: Exception, message: str) -> None:
    boundary = foreign_errors("tokenizer", tmp_path, where="r.yaml:2", remedy=lambda _: "remedy")
    with pytest.raises(UserError) as found, boundary:
        raise error
    text = str(found.value)
    assert text.startswith(f"r.yaml:2: the tokenizer of {tmp_path} cannot be loaded: ") and message in text
    assert len(text) < 600


def test_our_own_errors_and_exhausted_memory_pass() -> None:
    for error in (UserError("kept"), MemoryError()):
        with pytest.raises(type(error)) as found, foreign_errors("weights", "x"):
            raise error
        assert found.value is error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory while merging; less"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), "out of memory"),
        (SafetensorError("Error: Cannot allocate memory (os error 12)"), "out of memory while merging; less"),
        (RuntimeError("CUDA error: device-side assert triggered"), "the device failed while merging"),
    ],
)
def test_errors_of_the_device_reach_their_own_remedy(error: Exception, said: str) -> None:
    with pytest.raises(UserError, match=said), device_errors("merging", "less"), foreign_errors("weights", "x"):
        raise error
