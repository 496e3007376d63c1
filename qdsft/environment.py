"""Environment variables, read so that an empty value means unset."""

from __future__ import annotations

import os

_READ_BY_LIBRARIES = ("HF_", "HUGGINGFACE_", "QDSFT_", "TORCH_", "TRANSFORMERS_", "TRITON_", "WANDB_", "XDG_")
"""Beginnings of the names of variables that libraries read themselves. CUDA_VISIBLE_DEVICES, whose empty value means
"no GPU", is not among them."""


def variable(name: str, default: str = "") -> str:
    """Return the value of an environment variable, or the default if it is unset or empty."""
    return os.environ.get(name) or default


def remove_empty_variables() -> tuple[str, ...]:
    """Unset the empty variables that libraries read, and return their names.

    huggingface_hub takes HF_HOME="" as the current folder, and would download into ./hub.
    """
    empty = [name for name, value in os.environ.items() if not value and name.startswith(_READ_BY_LIBRARIES)]
    for name in empty:
        del os.environ[name]
    return tuple(sorted(empty))


EMPTY_VARIABLES = remove_empty_variables()
"""Variables that were set to an empty value when qdsft was imported. They are unset now."""
