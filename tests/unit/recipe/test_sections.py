"""The sections that qdsft defines: frozen, strict, every key described."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from qdsft.recipe.sections import Data, Evaluation, Model, Prompt, Publish, Section

SECTIONS = [Model, Data, Prompt, Evaluation, Publish]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_described(section: type[Section]) -> None:
    assert section.model_fields
    assert all(field.description for field in section.model_fields.values())


def test_an_unknown_key_and_another_type_are_refused() -> None:
    for values in ({"trian": "x"}, {"train": 1}, {"train": ""}, {"train": "x", "eval_fraction": 1.0}):
        with pytest.raises(ValidationError):
            Data.model_validate(values)
    with pytest.raises(ValidationError):
        Evaluation.model_validate({"samples": "5"})


def test_a_section_cannot_be_changed() -> None:
    data = Data(train="t.jsonl")
    with pytest.raises(ValidationError):
        data.train = "other"  # type: ignore[misc]


def test_nothing_is_published_or_run_without_being_asked() -> None:
    assert Publish().hub_model_id is None
    assert Model(name_or_path="m").trust_remote_code is False
