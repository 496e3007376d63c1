"""Particles after final consonants, digits, references and quotation marks."""

from __future__ import annotations

import pytest

from qdsft.data.synth.particles import Word, attach, final_consonant, read_number_end


@pytest.mark.parametrize(
    ("particle", "after_vowel", "after_rieul", "after_other"),
    [
        ("은", "는", "은", "은"),
        ("이", "가", "이", "이"),
        ("을", "를", "을", "을"),
        ("과", "와", "과", "과"),
        ("이나", "나", "이나", "이나"),
        ("이랑", "랑", "이랑", "이랑"),
        ("이며", "며", "이며", "이며"),
        ("으로", "로", "로", "으로"),
        ("의", "의", "의", "의"),
        ("에서", "에서", "에서", "에서"),
    ],
)
def test_every_particle_after_every_kind_of_ending(
    particle: str, after_vowel: str, after_rieul: str, after_other: str
) -> None:
    assert attach("회사", particle) == "회사" + after_vowel
    assert attach("등불", particle) == "등불" + after_rieul
    assert attach("강", particle) == "강" + after_other


@pytest.mark.parametrize(
    ("word", "final"),
    [
        ("가", ""),
        ("각", "other"),
        ("갈", "ㄹ"),
        ("닭", "other"),  # read 닥, so it does not count as ㄹ
        ("삶", "other"),
        ("히", ""),
        ("힣", "other"),
        ("로린이 태어난 도시", ""),
        ("'붉은 등불'", "ㄹ"),
        ("“푸른 숲”", "other"),
        ("《겨울 다리》", ""),
        ("고려(#1)", ""),
        ("조선(#2)", "other"),
        ("'종이 거울'(#3)", "ㄹ"),
        ("#4(#1)", ""),
        ("(조선)", "other"),
        ("서울 ", "ㄹ"),
    ],
)
def test_final_consonant_of_words(word: str, final: str) -> None:
    assert final_consonant(word) == final


@pytest.mark.parametrize(
    ("number", "subject"),
    [
        *[("1", "이"), ("2", "가"), ("3", "이"), ("4", "가"), ("5", "가"), ("6", "이"), ("7", "이"), ("8", "이")],
        *[("9", "가"), ("0", "이"), ("10", "이"), ("11", "이"), ("12", "가"), ("20", "이"), ("99", "가")],
        *[("100", "이"), ("105", "가"), ("110", "이"), ("1000", "이"), ("2,000", "이"), ("1987", "이"), ("2004", "가")],
        *[("10000", "이"), ("300,000", "이"), ("1,000,000", "이"), ("100,000,000", "이")],
        *[
            ("1,000,000,000,000", "가"),
            ("1" + "0" * 16, "이"),
            ("3.5", "가"),
            ("1.50", "이"),
            ("0.1", "이"),
            ("007", "이"),
        ],
    ],
)
def test_numbers_are_read_aloud(number: str, subject: str) -> None:
    for text in (number, f"#{number}" if number.isdecimal() else number, f"제{number}"):
        assert attach(text, "이") == text + subject


@pytest.mark.parametrize(
    ("number", "direction"),
    [
        *[("1", "로"), ("2", "로"), ("3", "으로"), ("4", "로"), ("5", "로"), ("6", "으로"), ("7", "로"), ("8", "로")],
        *[
            ("9", "로"),
            ("0", "으로"),
            ("10", "으로"),
            ("17", "로"),
            ("100", "으로"),
            ("1000", "으로"),
            ("2,000", "으로"),
        ],
        *[("1987", "로"), ("2016", "으로"), ("10,000", "으로"), ("1,000,000,000,000", "로"), ("2.8", "로")],
    ],
)
def test_rieul_rule_after_numbers(number: str, direction: str) -> None:
    assert attach(number, "으로") == number + direction
    assert attach(f"#{number}", "으로") == f"#{number}{direction}"


def test_units_after_numbers_decide() -> None:
    assert attach("1990년", "이") == "1990년이"
    assert attach("20만 명", "을") == "20만 명을"
    assert attach("100킬로미터", "을") == "100킬로미터를"


@pytest.mark.parametrize(
    ("number", "syllable"), [("0", "영"), ("00", "영"), ("10", "십"), ("1.50", "영"), ("30,500", "백")]
)
def test_last_syllable_of_numbers(number: str, syllable: str) -> None:
    assert read_number_end(number) == syllable


@pytest.mark.parametrize("word", ["", "Apple", "서울 A", "()", "ㄱ", "1" + "0" * 20])
def test_unknown_readings_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"not known|too large"):
        attach(word, "은")


_TEMPLATE: str = "".join(["{x:을} ", "{n}보다"])


def test_words_take_particles_as_format() -> None:
    assert f"{Word('강'):으로} {Word('#2'):과} {Word('등불')}" == "강으로 #2와 등불"
    assert _TEMPLATE.format(x=Word("책"), n=Word("9권")) == "책을 9권보다"
