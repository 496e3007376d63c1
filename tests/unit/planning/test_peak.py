"""Sums of traces: what grows with the layers, and the phase that needs most."""

from __future__ import annotations

import pytest

from qdsft.planning.peak import ACTIVATIONS, CONTEXT_NAME, LOSS, PAGED, WEIGHTS, Traced, extrapolate, find_peak


def stack(layers: int, windows: int = 0) -> Traced:
    """A model with a fixed part of 100, 10 a layer, 7 a layer with a window, and a loss that no layer changes."""
    weights = 100 + 10 * layers + 7 * windows
    phases = {
        "forward pass": {WEIGHTS: weights, ACTIVATIONS: 3 * layers + windows},
        "loss": {WEIGHTS: weights, LOSS: 50},
    }
    return Traced(phases, max(sum(parts.values()) for parts in phases.values()) + 5)


def test_a_deep_model_follows_from_short_ones() -> None:
    found = extrapolate(stack(2), [(stack(3), 30)])
    assert found == stack(32)
    assert found.allocated == 100 + 320 + 3 * 32


def test_each_kind_of_layer_has_its_own_cost() -> None:
    assert extrapolate(stack(2, 2), [(stack(3, 2), 4), (stack(2, 3), 20)]) == stack(6, 22)


def test_no_layer_is_missing() -> None:
    assert extrapolate(stack(2), []) == stack(2)


def test_a_component_of_the_longer_stack_alone_counts() -> None:
    phases = {name: {**parts, "more": 4.0} for name, parts in stack(3).phases.items()}
    assert extrapolate(stack(2), [(Traced(phases, 0), 10)]).phases["loss"]["more"] == 40


def test_the_peak_is_the_largest_phase_and_its_parts_add_up() -> None:
    peak = find_peak(stack(2), {CONTEXT_NAME: 8})
    assert (peak.phase, peak.total, peak.allocated, peak.reserved) == ("loss", 178, 170, 175)
    assert peak.phases == {"forward pass": 134, "loss": 178}
    assert list(peak.components) == [WEIGHTS, LOSS, CONTEXT_NAME]
    assert sum(peak.components.values()) == peak.total


@pytest.mark.parametrize("paged", [0, 60])
def test_paged_states_are_told_and_do_not_count(paged: int) -> None:
    phases = {name: {**parts, PAGED: paged} for name, parts in stack(2).phases.items()}
    peak = find_peak(Traced(phases, 0), {})
    assert peak.paged == paged
    assert peak.phase == "loss" and peak.total == 170
