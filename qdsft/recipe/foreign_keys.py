"""The keys that Axolotl, LLaMA-Factory, Unsloth and TRL's scripts use for what a recipe has, and their names here."""

from __future__ import annotations

from qdsft.recipe.upstream_keys import RENAMED

_QLORA = "quantization.load_in_4bit: true, with a lora section"
_PACKING = "training.packing"
_MICRO_BATCH = "training.per_device_train_batch_size"
_TRAIN = "data.train (a file or a Hub dataset)"
_EVAL_SHARE = "data.eval_fraction"
_TEMPLATE = "model.chat_template (a Jinja file)"
_EPOCHS = "training.num_train_epochs"
_OUTPUT = "training.output_dir"

FOREIGN_KEYS = {
    # Models
    "model": "model.name_or_path",
    "base_model": "model.name_or_path",
    "model_id": "model.name_or_path",
    "model_name": "model.name_or_path",
    "model_name_or_path": "model.name_or_path",
    "pretrained_model_name_or_path": "model.name_or_path",
    "tokenizer_name_or_path": "model.name_or_path (the tokenizer is the model's)",
    "model_revision": "model.revision",
    "base_model_revision": "model.revision",
    "torch_dtype": "model.dtype",
    "flash_attention": "model.attn_implementation: flash_attention_2",
    "flash_attn": "model.attn_implementation: flash_attention_2",
    "sdp_attention": "model.attn_implementation: sdpa",
    "template": _TEMPLATE,
    "chat_template_jinja": _TEMPLATE,
    # Adapters
    "adapter": "lora.r (a lora section trains adapters; quantization.load_in_4bit: true makes it QLoRA)",
    "finetuning_type": "lora.r (a lora section trains adapters; without one all weights are trained)",
    "use_peft": "lora.r (a lora section trains adapters)",
    "use_lora": "lora.r (a lora section trains adapters)",
    "use_qlora": _QLORA,
    "qlora": _QLORA,
    "lora_r": "lora.r",
    "lora_rank": "lora.r",
    "lora_target": "lora.target_modules",
    "lora_target_modules": "lora.target_modules",
    "lora_target_linear": "lora.target_modules: all-linear",
    "lora_modules_to_save": "lora.modules_to_save",
    "additional_target": "lora.modules_to_save",
    "lora_bias": "lora.bias",
    "lora_use_dora": "lora.use_dora",
    "lora_use_rslora": "lora.use_rslora",
    "peft_use_dora": "lora.use_dora",
    "peft_use_rslora": "lora.use_rslora",
    "loraplus_lr_ratio": "training.learning_rate (one for all weights; LoRA+ is not supported)",
    # Quantization
    "quantization_bit": "quantization.load_in_4bit or quantization.load_in_8bit",
    "quantization_type": "quantization.bnb_4bit_quant_type",
    "double_quantization": "quantization.bnb_4bit_use_double_quant",
    "use_bnb_nested_quant": "quantization.bnb_4bit_use_double_quant",
    "use_nested_quant": "quantization.bnb_4bit_use_double_quant",
    # Data
    "data": _TRAIN,
    "dataset": _TRAIN,
    "datasets": _TRAIN,
    "dataset_name": _TRAIN,
    "dataset_id": _TRAIN,
    "dataset_path": _TRAIN,
    "data_path": _TRAIN,
    "train_file": _TRAIN,
    "train_dataset": _TRAIN,
    "dataset_train_split": "data.train_split",
    "dataset_test_split": "data.eval_split",
    "test_datasets": "data.eval",
    "eval_dataset": "data.eval",
    "validation_file": "data.eval",
    "val_size": _EVAL_SHARE,
    "val_set_size": _EVAL_SHARE,
    "test_size": _EVAL_SHARE,
    "max_train_samples": "data.max_samples",
    "system_prompt": "prompt.system",
    "default_system": "prompt.system",
    # Training
    "cutoff_len": "training.max_length",
    "sequence_len": "training.max_length",
    "max_seq_length": "training.max_length",
    "max_seq_len": "training.max_length",
    "model_max_length": "training.max_length",
    "sample_packing": _PACKING,
    "pack": _PACKING,
    "neat_packing": _PACKING,
    "micro_batch_size": _MICRO_BATCH,
    "batch_size": _MICRO_BATCH,
    "train_batch_size": _MICRO_BATCH,
    "eval_batch_size": "training.per_device_eval_batch_size",
    "num_epochs": _EPOCHS,
    "epochs": _EPOCHS,
    "n_epochs": _EPOCHS,
    "lr": "training.learning_rate",
    "embedding_learning_rate": "training.learning_rate (one for all weights)",
    "scheduler": "training.lr_scheduler_type",
    "optimizer": "training.optim",
    "evals_per_epoch": "training.eval_steps (below 1 it is a share of all steps)",
    "saves_per_epoch": "training.save_steps (below 1 it is a share of all steps)",
    "train_on_inputs": "training.completion_only_loss (it is always true)",
    "train_on_prompt": "training.completion_only_loss (it is always true)",
    "enable_liger_kernel": "training.use_liger_kernel",
    "liger": "training.use_liger_kernel",
    "use_gradient_checkpointing": "training.activation_checkpointing",
    "disable_gradient_checkpointing": "training.activation_checkpointing: false",
    "weight_decay_ratio": "training.weight_decay",
    "wandb_project": "training.report_to: wandb (the project is in the environment variable WANDB_PROJECT)",
    "use_wandb": "training.report_to: wandb",
    "wandb_name": "training.run_name",
    "wandb_run_id": "training.run_name",
    "random_state": "seed",
    "random_seed": "seed",
    "out_dir": _OUTPUT,
    "save_path": _OUTPUT,
    "push_to_hub_model_id": "publish.hub_model_id",
}
"""Key, in any place -> the key of a recipe, and in brackets what differs."""


def foreign_key(name: str) -> str | None:
    """Return the key of a recipe for another tool's name, or for an older name of an upstream key; None if unknown."""
    name = name.lower().replace("-", "_")
    if name in FOREIGN_KEYS:
        return FOREIGN_KEYS[name]
    sections = [section for section, renamed in RENAMED.items() if name in renamed]
    return f"{sections[0]}.{RENAMED[sections[0]][name]}" if sections else None
