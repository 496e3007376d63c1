"""Fine-tune language models for question decomposition."""

import os
from typing import TYPE_CHECKING, Any

from qdsft.environment import EMPTY_VARIABLES as EMPTY_VARIABLES  # unset before any library reads them

# TRL and huggingface_hub report usage by default; nothing is sent from here unless a recipe asks for it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from qdsft.inference.decomposer import Decomposer as Decomposer

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load `qdsft.Decomposer` when it is asked for, so that `import qdsft` stays light."""
    if name == "Decomposer":
        from qdsft.inference.decomposer import Decomposer

        return Decomposer
    raise AttributeError(f"module 'qdsft' has no attribute {name!r}")
