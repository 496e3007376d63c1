"""The steps of a program: in order, each referring only to earlier ones."""

from __future__ import annotations

from qdsft.data.synth.programs import Both, Compare, Follow, Members, MostMembers, Named, PerGroup, Superlative
from qdsft.data.synth.sample import forms
from qdsft.data.synth.steps import Step, plan
from qdsft.data.synth.world import load_world

WORLD = load_world()
HARBOR, BRIDGE = Named("Harbor"), Named("Bridge")


def test_a_chain_refers_to_the_step_before() -> None:
    assert plan(Follow("birthplace", Follow("director", HARBOR)), WORLD) == [
        Step("follow", "director", ("Harbor",)),
        Step("follow", "birthplace", (1,)),
    ]


def test_two_sets_are_joined_by_their_numbers() -> None:
    assert plan(Both(Members("cast_of", HARBOR), Members("cast_of", BRIDGE)), WORLD) == [
        Step("members", "cast_of", ("Harbor",), "person"),
        Step("members", "cast_of", ("Bridge",), "person"),
        Step("both", "", (1, 2), "person"),
    ]


def test_a_comparison_names_both_and_their_values() -> None:
    assert plan(Compare(HARBOR, BRIDGE, "minutes", False), WORLD) == [
        Step("value", "minutes", ("Harbor",)),
        Step("value", "minutes", ("Bridge",)),
        Step("compare", "minutes", ("Harbor", "Bridge", 1, 2), "film", up=False),
    ]


def test_a_superlative_looks_at_each_value() -> None:
    assert plan(Superlative(Members("cast_of", HARBOR), "born", True), WORLD) == [
        Step("members", "cast_of", ("Harbor",), "person"),
        Step("each_value", "born", (1,)),
        Step("top", "born", (1, 2), "person"),
    ]


def test_the_most_members_follow_from_the_counts() -> None:
    group = Members("cast_of", HARBOR)
    counts = plan(PerGroup(group, "directed"), WORLD)
    assert [step.act for step in counts] == ["members", "each_members", "each_count"]
    assert plan(MostMembers(group, "directed"), WORLD) == [*counts, Step("most", "directed", (1, 3), "person")]


def test_every_shape_refers_backwards_and_uses_every_step() -> None:
    for name, form in forms(WORLD).items():
        program, _, _ = form[len(form) // 2]
        steps = plan(program, WORLD)
        used = [item for step in steps for item in step.references if isinstance(item, int)]
        assert set(used) == set(range(1, len(steps))), name
        for number, step in enumerate(steps, start=1):
            assert all(item < number for item in step.references if isinstance(item, int)), name
