"""Step F1 and edge F1: values by hand, and the faults and freedoms of a whole synthetic corpus."""

from __future__ import annotations

import random
import time
import unicodedata
from collections.abc import Callable, Sequence
from itertools import permutations
from statistics import fmean

import pytest

from qdsft.data.decomposition import REFERENCE, Decomposition, numbered
from qdsft.data.synth import generate_mixed
from qdsft.metrics import alignment
from qdsft.metrics.alignment import align, edge_f1, similarity, step_f1

CORPUS = [tuple(row["sub_questions"]) for row in generate_mixed(["en", "ko"], 300, 0)]
Steps = Sequence[str]


def scores(predicted: Steps, gold: Steps) -> tuple[float, float]:
    pairs = align(predicted, gold)
    return step_f1(predicted, gold, pairs), edge_f1(predicted, gold, pairs)


def test_similarity_by_hand() -> None:
    # abc against abd: F_1 = 2 of 3 shared, F_2 = 1 of 2, F_3 = 0 of 1; there are no 4-grams.
    assert similarity("abc", "abd") == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-12)
    # aab against ab: multisets. F_1 = 2*2/(3+2), F_2 = 2*1/(2+1), F_3 = 2*0/(1+0).
    assert similarity("aab", "ab") == pytest.approx((4 / 5 + 2 / 3 + 0) / 3, abs=1e-12)
    assert similarity("", "a") == similarity("", "") == similarity("ab", "cd") == 0.0


def test_similarity_sees_through_case_spaces_and_composition() -> None:
    assert similarity(" Who  WROTE\tit?", "who wrote it?") == 1.0
    assert similarity(unicodedata.normalize("NFD", "누가 썼나요?"), "누가 썼나요?") == 1.0
    assert similarity("no one", "noone") < 1.0


def test_similarity_is_symmetric() -> None:
    steps = [step for gold in CORPUS[:20] for step in gold]
    assert all(similarity(a, b) == similarity(b, a) for a, b in zip(steps, steps[7:], strict=False))


def test_a_missing_and_a_surplus_step_by_hand() -> None:
    gold = ["Who wrote Emma?", "When was #1 born?"]
    assert scores(gold[:1], gold) == pytest.approx((2 * 1 / 3, 0.0))  # P = 1, R = 1/2; the only edge is missing
    assert scores([*gold, "£"], gold) == pytest.approx((4 / 5, 1.0))  # P = 2/3, R = 1
    assert scores([], gold) == (0.0, 0.0)
    assert scores([], []) == (1.0, 1.0)


def test_no_pairing_is_better() -> None:
    # Texts of few letters, so that steps compete for the same partner and a greedy choice is often wrong.
    drawn = random.Random(5)
    for _ in range(200):
        texts = ["".join(drawn.choices("abc", k=drawn.randint(1, 7))) for _ in range(7)]
        predicted, gold = texts[:4], texts[4:]
        found = sum(similarity(predicted[p - 1], gold[g - 1]) for p, g in align(predicted, gold).items())
        best = max(
            sum(similarity(predicted[p], step) for p, step in zip(chosen, gold, strict=True))
            for chosen in permutations(range(4), 3)
        )
        assert found == pytest.approx(best, abs=1e-3)


def test_edges_by_hand() -> None:
    gold = ["film?", "director of #1?", "year of #1?", "was #2 alive in #3?"]  # edges 1-2, 1-3, 2-4, 3-4
    wrong = [*gold[:3], "was #1 alive in #3?"]  # 1-4 instead of 2-4
    assert scores(wrong, gold)[1] == pytest.approx(2 * 3 / 8)
    dangling = [*gold[:3], "was #2 alive in #9?"]
    assert scores(dangling, gold)[1] == pytest.approx(2 * 3 / 8)
    assert scores(["film?"], ["film?"])[1] == 1.0
    assert scores(["film?", "old?"], ["film?", "#1 old?"])[1] == 0.0
    assert scores(["film?", "#1 old?"], ["film?", "old?"])[1] == 0.0


def test_swapped_references_lower_step_f1_though_the_edges_are_the_same() -> None:
    gold = ["age of Ada?", "height of Bo?", "Is #1 more than #2?"]
    swapped = [*gold[:2], "Is #2 more than #1?"]
    steps, edges = scores(swapped, gold)
    assert edges == 1.0 and 0.8 < steps < 1.0


def test_steps_that_differ_only_in_what_they_refer_to_are_paired_by_it() -> None:
    gold = ["red cubes", "green balls", "number of #1", "number of #2", "which is highest of #3, #4"]
    twin = ["green balls", "red cubes", "number of #1", "number of #2", "which is highest of #4, #3"]
    assert align(twin, gold) == {1: 2, 2: 1, 3: 4, 4: 3, 5: 5}
    assert scores(twin, gold) == (1.0, 1.0)


def shuffled(steps: Steps, renumber: bool) -> list[str]:
    order = list(range(len(steps)))
    random.Random(repr(steps)).shuffle(order)
    new = {old + 1: place + 1 for place, old in enumerate(order)}
    if not renumber:
        return [steps[old] for old in order]
    return [REFERENCE.sub(lambda match: f"#{new[int(match[1])]}", steps[old]) for old in order]


def shifted(steps: Steps) -> list[str]:
    return [REFERENCE.sub(lambda match: f"#{int(match[1]) + 1}", step) for step in steps]


@pytest.mark.parametrize(
    "change", [list, lambda steps: shuffled(steps, True), lambda steps: [s.upper() for s in steps]]
)
def test_gold_answers_score_perfectly_over_a_corpus(change: Callable[[Steps], list[str]]) -> None:
    for gold in CORPUS:
        assert scores(change(gold), gold) == pytest.approx((1.0, 1.0)), gold


@pytest.mark.parametrize("change", [shifted, lambda steps: shuffled(steps, False)], ids=["shifted", "shuffled"])
def test_wrong_references_lose_edges_over_a_corpus(change: Callable[[Steps], list[str]]) -> None:
    changed = [(change(gold), gold) for gold in CORPUS if Decomposition(gold).edges]
    moved = [(steps, gold) for steps, gold in changed if tuple(steps) != gold]
    assert len(moved) > len(CORPUS) / 2
    found = [scores(steps, gold) for steps, gold in moved]
    assert fmean(edges for _, edges in found) < 0.5
    assert fmean(steps for steps, _ in found) > 0.85, "the words of the steps are right"


def test_hostile_answers_are_scored() -> None:
    gold = ["a?", "#1?"]
    for steps in (["#" * 500], [""] * 30, ["#99999999999999999999?"], [f"#{n}?" for n in range(200)], ["\ue000\uf8ff"]):
        for value in scores(steps, gold):
            assert 0.0 <= value <= 1.0


def test_many_steps_are_paired_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above MANY_PAIRS the similarities are computed together, with the same values to the last bit."""
    chance = random.Random(7)
    words = ["who", "which", "city", "river", "When", "#1", "#12", "été", "가", "a"]
    for _ in range(20):
        one, other = (
            [" ".join(chance.choices(words, k=chance.randint(0, 6))) for _ in range(chance.randint(1, 12))]
            for _ in range(2)
        )
        one, other = list(dict.fromkeys(one)), list(dict.fromkeys(other))
        monkeypatch.setattr(alignment, "MANY_PAIRS", 10_000)
        few = align(one, other)
        monkeypatch.setattr(alignment, "MANY_PAIRS", 0)
        assert align(one, other) == few
        assert step_f1(one, other, few) == step_f1(one, other, align(one, other))


@pytest.mark.parametrize(
    "steps",
    [
        [f"Which of the {n * 7919 % 1000} rivers is in #{n}?" for n in range(1000)],
        ["What is it #1?"] * 1000,
        [f"#{n}" for n in range(1000)],
        [f"What is {n} of {' '.join(f'#{k}' for k in range(n % 100))}?" for n in range(1000)],
        ["a" * 1000] * 1000,
        ["a" * 1000 + str(n) for n in range(1000)],
    ],
)
def test_a_thousand_steps_are_scored_in_seconds(steps: list[str]) -> None:
    start = time.monotonic()
    predicted = Decomposition.parse(numbered(reversed(steps))).steps
    assert 0.0 <= scores(predicted, steps)[0] <= 1.0
    assert time.monotonic() - start < 20
