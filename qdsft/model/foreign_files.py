"""The boundary to libraries that read files of others: what they raise becomes one line with the file and a remedy.

transformers, tokenizers, PEFT and torch raise almost any exception for a damaged file, tokenizers even a plain
Exception. Their message often does not name the file, so the files are looked at here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from qdsft.errors import UserError, cut
from qdsft.model.device_errors import is_device_error, is_out_of_memory

Part = Literal["config.json", "generation config", "tokenizer", "weights", "adapter"]
"""What a library loads."""

_FILES: dict[Part, tuple[str, ...]] = {
    "config.json": ("config.json",),
    "generation config": ("generation_config.json",),
    "tokenizer": ("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "*.model", "*.jinja"),
    "weights": ("config.json", "generation_config.json", "*.index.json", "*.safetensors", "pytorch_model*.bin"),
    "adapter": ("adapter_config.json", "adapter_model.*"),
}
_LFS = b"version https://git-lfs"
_LFS_FAULT = "is a Git LFS pointer, not the file"
_LFS_REMEDY = "run git lfs pull in its folder, or download the model again"
_LISTS = ("added_tokens.json",)
"""JSON files that need not be an object."""
_NEWER = ("did not match any variant", "Unknown tokenizer version")
"""Parts of what tokenizers says of a part that its release does not know."""
PUT_BACK = "download the model again, or put its original files back"


@contextmanager
def foreign_errors(
    part: Part, folder: str | Path, *, where: str = "", remedy: Callable[[Exception], str] = lambda _: PUT_BACK
) -> Iterator[None]:
    """Turn any exception of the library call in this block into a UserError. Put nothing else into the block.

    `where` begins the message; it defaults to the folder. A damaged file of the folder is named, with its own remedy;
    otherwise the exception is quoted before the remedy that `remedy` returns for it. Errors of the device pass, for
    `device_errors` around this block; running out of memory passes as MemoryError.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        if is_device_error(error):
            raise
        prefix = f"{where}: the {part} of {folder}" if where else f"{folder}: the {part}"
        fault = damaged_file(Path(folder), part, remedy(error))
        raise UserError(f"{prefix} cannot be loaded: {fault or _quoted(error, remedy(error))}") from error


def damaged_file(folder: Path, part: Part, remedy: str = PUT_BACK) -> str | None:
    """Return what is wrong with a file of a local model's part and the remedy, or None if no file is to blame."""
    for pattern in _FILES[part]:
        for path in sorted(folder.glob(pattern)):
            if fault := _fault(path):
                return f"{path.name} {fault}; {_LFS_REMEDY if fault == _LFS_FAULT else remedy}"
    return None


def _fault(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
        if start == _LFS:
            return _LFS_FAULT
        if not start:
            return "is empty"
        if path.suffix == ".json":
            is_object = isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
            return None if is_object or path.name in _LISTS else "is not a JSON object"
        if path.suffix == ".jinja":
            path.read_text(encoding="utf-8")
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                return None
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except UnicodeDecodeError:
        return "is not UTF-8"
    except (ValueError, RecursionError):
        return "is not JSON"
    except SafetensorError as error:
        return f"is cut or damaged ({cut(str(error), 120)})"
    return None


def _quoted(error: Exception, remedy: str) -> str:
    text = " ".join(str(error).split())
    if any(part in text for part in _NEWER):
        return (
            f"{cut(text, 120)}; its tokenizer.json was perhaps written for a newer release than tokenizers "
            f"{metadata.version('tokenizers')}; take the files of that release, or put the original file back"
        )
    if not text or isinstance(error, LookupError | TypeError | AttributeError):
        text = f"{type(error).__name__} {text}".strip()
    return f"{cut(text, 300)} ({remedy})"
