"""Every name in the lora section matches a module, or the error names the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.adapted_models import refusal


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            {"target_modules": ["q_proj", "v_prj"]},
            "lora.target_modules: v_prj matches no module of the model; did you mean v_proj?",
        ),
        ({"target_modules": ["self_attn.qproj"]}, "did you mean self_attn.q_proj?"),
        ({"target_modules": ["proj"]}, "proj matches no module of the model"),
        ({"target_modules": ".*query"}, ".*query matches no module of the model"),
        ({"target_modules": ["q_proj", "mlp"]}, "LlamaMLP( (gate_proj)"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_haed"]}, "did you mean lm_head?"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "emb_tokens"]}, "did you mean embed_tokens?"),
        ({"target_modules": ["q_proj"], "exclude_modules": ["k_porj"]}, "did you mean k_proj?"),
        ({"target_modules": ["q_proj"], "exclude_modules": "nothing.*"}, "lora.exclude_modules: nothing.* matches"),
        (
            {"target_modules": ["q_proj"], "rank_pattern": {"nothing": 4}},
            "lora.rank_pattern: nothing matches no module",
        ),
        ({"target_modules": ["q_proj"], "rank_pattern": {"k_proj": 4}}, "k_proj matches no module"),
        ({"target_modules": ["q_proj"], "alpha_pattern": {"q_prj": 4}}, "did you mean q_proj?"),
        (
            {"target_modules": ["q_proj"], "rank_pattern": {"q_proj": 4, "layers.0.self_attn.q_proj": 2}},
            "layers.0.self_attn.q_proj is never used",
        ),
        ({"target_modules": ["q_proj"], "alpha_pattern": {"q_proj(": 4}}, "is not a regular expression"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 4]}, "layer 4 of 4 has none of the target modules"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layer"}, "did you mean layers?"),
        ({"target_modules": [], "target_parameters": ["mlp.up.weight"]}, "matches no parameter of the model"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [300]}, "300 is no token of 300"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": {"embed": [1]}}, "embed matches no module"),
    ],
)
def test_a_name_that_matches_nothing_is_refused_with_the_nearest(
    lora: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, "llama", **lora)
