"""The search of passages: terms of both languages, and an order that does not depend on chance."""

from __future__ import annotations

import sys

import pytest

from qdsft.errors import UserError
from qdsft.optional_packages import Package
from qdsft.scoring import search
from qdsft.scoring.search import Index, korean_terms, terms

pytest.importorskip("bm25s")
WITHOUT_KIWI = Package("no_such_module", "kiwipiepy", "korean")


def test_english_terms() -> None:
    assert terms("The Children of Genghis KHAN, in 1206!") == ["children", "genghis", "khan", "1206"]
    assert terms("ｆｕｌｌ width") == ["full", "width"]
    assert terms("") == terms("the of a ?") == []


def test_korean_terms_without_an_analyser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "KIWI", WITHOUT_KIWI)
    assert terms("경복궁을 지은 왕 1392 Seoul") == ["경복", "복궁", "궁을", "지은", "왕", "1392", "seoul"]
    assert korean_terms() == "pairs of syllables"


def test_korean_terms_are_morphemes() -> None:
    pytest.importorskip("kiwipiepy")
    assert terms("경복궁을 지은 왕의 아버지") == ["경복궁", "짓", "왕", "아버지"]
    assert terms("경복궁은") == terms("경복궁에서는") == ["경복궁"]
    assert korean_terms().startswith("morphemes")


def test_the_best_passages_come_first() -> None:
    index = Index(["Ada was born in Oslo.", "Oslo is a city.", "Bo likes tea.", "Ada and Bo met Ada in Oslo."])
    assert index.search("Where was Ada born?", 2) == [0, 3]
    assert index.search("tea", 10) == [2]
    assert index.search("unknown words", 10) == index.search("", 10) == []


def test_equal_passages_keep_their_order() -> None:
    index = Index(["Bo"] * 3 + ["Ada"] * 50 + ["Bo"] * 50)
    assert index.search("Ada", 20) == list(range(3, 23))
    assert index.search("Bo", 5) == [0, 1, 2, 53, 54]


def test_passages_without_terms_are_never_found() -> None:
    index = Index(["the", "", "Ada"])
    assert index.search("the Ada", 3) == [2]


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    monkeypatch.setattr("qdsft.optional_packages.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"a retrieval requires bm25s; install with: pip install .*retrieval"):
        Index(["Ada"])
