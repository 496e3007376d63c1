"""Changes that make_schema.py makes to the schemas of upstream keys: narrower values, ranges and qdsft's own keys."""

from __future__ import annotations

from typing import Any

from qdsft.recipe.upstream_keys import PISSA_NITER

TEXTS = {"type": "array", "items": {"type": "string"}}
DEBUG = ["", "underflow_overflow"]
RANKS = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}}
NARROWED: dict[str, dict[str, Any]] = {
    # "wrapped" splits rows and lets samples attend to each other.
    "training.packing_strategy": {"enum": ["bfd", "bfd_split"], "default": "bfd"},
    "training.completion_only_loss": {"enum": [True], "default": True},
    # "auto" is qdsft's; TRL's default is true, under an older name.
    "training.activation_checkpointing": {"enum": ["auto", True, False], "default": "auto"},
    # transformers reads the last two and passes the others to torch.utils.checkpoint, which fails at the first step for
    # another name. TRL's key selective does not work with transformers 5.23.
    "training.activation_checkpointing_kwargs": {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    **{key: {"type": "boolean"} for key in ("use_reentrant", "preserve_rng_state", "early_stop")},
                    "determinism_check": {"enum": ["default", "none"]},
                    "every_n_layers": {"type": "integer", "minimum": 1},
                    "offload": {"type": "boolean"},
                },
                "additionalProperties": False,
            },
            {"type": "null"},
        ]
    },
    "training.save_total_limit": {"default": 2},
    "training.max_steps": {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": [-1]}]},
    "training.pad_to_multiple_of": {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto"]}, {"type": "null"}]},
    "training.include_num_input_tokens_seen": {"enum": ["all", "non_padding", "no", True, False]},
    # The other value, tpu_metrics_debug, is read on a TPU only.
    "training.debug": {"anyOf": [{"enum": DEBUG}, {"type": "array", "items": {"enum": DEBUG[1:]}}]},
    "training.optim_target_modules": {"anyOf": [{"type": "string"}, TEXTS, {"type": "null"}]},
    "lora.init_lora_weights": {
        # "corda", "loftq" and "lora_ga" are refused in LORA_INITS, with the reason.
        "anyOf": [
            {"type": "boolean"},
            {"enum": ["gaussian", "eva", "olora", "pissa", "orthogonal", "mica"]},
            {"type": "string", "pattern": PISSA_NITER, "description": "pissa_niter_N with a number N"},
        ]
    },
    "training.output_dir": {
        "description": "The run directory, with `~` and `${VAR}` expanded; "
        "default outputs/<recipe folder>-<recipe file>."
    },
    "lora.rank_pattern": {"anyOf": [RANKS, {"type": "null"}]},
    "lora.alpha_pattern": {"anyOf": [RANKS, {"type": "null"}]},
    "quantization.bnb_4bit_quant_type": {"enum": ["nf4", "fp4"], "default": "fp4"},
    "quantization.bnb_4bit_compute_dtype": {"enum": ["auto", "bfloat16", "float16", "float32"], "default": "auto"},
    "quantization.bnb_4bit_quant_storage": {"enum": ["uint8", "bfloat16", "float16", "float32"], "default": "uint8"},
    "quantization.llm_int8_skip_modules": {"anyOf": [TEXTS, {"type": "null"}]},
}
OWN_TRAINING = {
    "global_batch_size": {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
        "default": None,
        "description": "Rows (packed rows, with packing) per optimizer step over all devices; the number of "
        "accumulation steps follows from it. null: per_device_train_batch_size times the number of devices.",
    },
    "early_stopping_patience": {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
        "default": None,
        "description": "Stop after so many evaluations in a row without a better metric_for_best_model, and keep the "
        "best checkpoint (transformers.EarlyStoppingCallback). null: train to the end.",
    },
}
AT_LEAST_ONE = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "max_length", "torch_empty_cache_steps"),
    *("save_total_limit", "dataloader_prefetch_factor", "ddp_bucket_cap_mb", "ddp_timeout", "r", "lora_alpha"),
)
NOT_NEGATIVE = (
    *("adam_epsilon", "weight_decay", "max_grad_norm", "warmup_steps", "eval_delay", "dataloader_num_workers"),
    *("data_seed", "router_aux_loss_coef", "llm_int8_threshold"),
)
ABOVE_ZERO = ("logging_steps", "eval_steps", "save_steps", "neftune_noise_alpha")
BELOW_ONE = ("adam_beta1", "adam_beta2", "lora_dropout")
RANGES: dict[str, dict[str, float]] = {
    **{key: {"minimum": 1} for key in AT_LEAST_ONE},
    **{key: {"minimum": 0} for key in NOT_NEGATIVE},
    **{key: {"exclusiveMinimum": 0} for key in ABOVE_ZERO},
    **{key: {"minimum": 0, "exclusiveMaximum": 1} for key in BELOW_ONE},
    "label_smoothing_factor": {"minimum": 0, "maximum": 1},
}
"""What upstream accepts in its dataclass and fails with, or ignores, after the weights are loaded."""
