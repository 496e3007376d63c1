"""Renamed and reserved keys: no key is both, and each has an answer."""

from __future__ import annotations

import pytest

from qdsft.recipe.schema import recipe_schema, section_schema
from qdsft.recipe.upstream_keys import RENAMED, RESERVED, UPSTREAM


@pytest.mark.parametrize("section", sorted(RENAMED))
def test_a_renamed_key_leads_to_a_key_of_today(section: str) -> None:
    assert section in recipe_schema()["properties"]
    for old, new in RENAMED[section].items():
        assert old not in section_schema(section)
        assert new.replace(":", " ").split()[0] in section_schema(section)


@pytest.mark.parametrize("section", sorted(RESERVED))
def test_a_reserved_key_has_a_reason_and_is_not_renamed(section: str) -> None:
    assert section in {*UPSTREAM, "publish"}
    assert not RESERVED[section].keys() & RENAMED.get(section, {}).keys()
    assert all(reason and not reason.endswith(".") for reason in RESERVED[section].values())
