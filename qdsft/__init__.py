"""Fine-tune language models for question decomposition."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from qdsft.environment import EMPTY_VARIABLES as EMPTY_VARIABLES  # unset before any library reads them

# TRL and huggingface_hub report usage by default; nothing is sent from here unless a recipe asks for it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from qdsft.data.execution import execute as execute
    from qdsft.inference.decomposer import Decomposer as Decomposer
    from qdsft.inference.evaluate import evaluate as evaluate
    from qdsft.recipe.load import load_recipe as load_recipe
    from qdsft.training.library import train as train
    from qdsft.training.plan import plan as plan

__version__ = "0.2.0"
_PUBLIC = {
    "Decomposer": "qdsft.inference.decomposer",
    "execute": "qdsft.data.execution",
    "evaluate": "qdsft.inference.evaluate",
    "load_recipe": "qdsft.recipe.load",
    "plan": "qdsft.training.plan",
    "train": "qdsft.training.library",
}
"""Name -> its module, which is imported when the name is first used, so that `import qdsft` stays light."""


def __getattr__(name: str) -> Any:
    """Return a public class or function from its module."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'qdsft' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the module, for completion in a notebook."""
    return sorted([*globals(), *_PUBLIC])
