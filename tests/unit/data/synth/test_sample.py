"""Forms: every program and phrasing of the synthetic corpus, by number."""

from __future__ import annotations

from itertools import groupby

import pytest

from qdsft.data.synth.english import English
from qdsft.data.synth.korean import Korean
from qdsft.data.synth.programs import operations
from qdsft.data.synth.sample import forms
from qdsft.data.synth.world import load_world

OPERATIONS = {
    *("chain", "filter", "intersection", "union", "superlative", "count"),
    *("comparison", "difference", "boolean", "group"),
}


@pytest.mark.parametrize("wording", [English, Korean])
def test_a_program_has_three_to_twelve_phrasings(wording: type[English] | type[Korean]) -> None:
    world = load_world()
    words = wording(world)
    for name, form in forms(world).items():
        for start in (0, len(form) - 240):
            questions = [form[index] for index in range(start, start + 240)]
            groups = [list(group) for _, group in groupby(questions, key=lambda question: question[0])]
            for phrasings in groups[1:-1]:  # the outer ones may be cut
                said = [words.question(*phrasing) for phrasing in phrasings]
                assert len(set(said)) == len(said) in (3, 6, 12), (name, said)


@pytest.mark.slow
@pytest.mark.parametrize("wording", [English, Korean])
def test_no_two_programs_or_phrasings_share_a_question(wording: type[English] | type[Korean]) -> None:
    world = load_world()
    words, seen, total = wording(world), set(), 0
    for form in forms(world).values():
        for index in range(len(form)):
            seen.add(words.question(*form[index]).casefold())
        total += len(form)
    assert len(seen) == total > 1_000_000


def test_programs_of_all_shapes_name_their_operations() -> None:
    for name, form in forms(load_world()).items():
        for index in (0, len(form) // 2, len(form) - 1):
            found = operations(form[index][0])
            assert ("chain" in found) or "chain" not in name or "before chain" in name, (name, found)
            for operation in OPERATIONS - {"chain", "group", "superlative"}:
                assert operation not in name.split() or operation in found, (name, found)
