"""The English model: the error if it or spaCy is missing, and the choice of its package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qdsft.errors import UserError
from qdsft.metrics.break_official import english_model
from qdsft.metrics.break_official.english_model import load_english


def load() -> object:
    """Load the model without the cache."""
    return load_english.__wrapped__()


def test_without_spacy_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(UserError, match=r"pip install -e '\S*\[break\]' && python -m spacy download en_core_web_sm$"):
        load()


def test_without_a_model_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spacy")
    monkeypatch.setattr(english_model, "MODELS", ("en_no_such_model",))
    with pytest.raises(UserError, match=r"no English model; run: python -m spacy download en_core_web_sm$"):
        load()


def test_a_model_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("spacy")
    folder = tmp_path / "en_broken_model" / "en_broken_model-9.9.9"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "config.cfg").write_text("[nlp]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(english_model, "MODELS", ("en_no_such_model", "en_broken_model"))
    with pytest.raises(UserError, match=r"en_broken_model cannot be loaded by spaCy .*; run: python -m spacy download"):
        load()


def test_the_model_is_loaded_once_and_finds_no_entities() -> None:
    try:
        english = load_english()
    except UserError as error:
        pytest.skip(str(error))
    assert load_english() is english
    assert "parser" in english.pipe_names and "ner" not in english.pipe_names
    assert [token.lemma_ for token in english("the cubes")] == ["the", "cube"]
