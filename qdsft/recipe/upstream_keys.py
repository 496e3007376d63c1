"""The upstream class of each section, and the keys that qdsft renames or reserves."""

from __future__ import annotations

UPSTREAM = {
    "training": "trl.SFTConfig",
    "lora": "peft.LoraConfig",
    "quantization": "transformers.BitsAndBytesConfig",
}

RENAMED = {
    "training": {
        "max_seq_length": "max_length",
        "max_seq_len": "max_length",
        "evaluation_strategy": "eval_strategy",
        "warmup_ratio": "warmup_steps (a value below 1 is a share of all steps)",
        "group_by_length": "train_sampling_strategy: group_by_length",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "batch_size": "per_device_train_batch_size",
        "epochs": "num_train_epochs",
        "lr": "learning_rate",
        "lr_scheduler": "lr_scheduler_type",
        "optimizer": "optim",
        "gradient_checkpointing": "activation_checkpointing",
        "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
        "logging_dir": "output_dir (TensorBoard files lie in its runs folder)",
    },
    "lora": {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "modules": "target_modules"},
    "quantization": {"quant_type": "bnb_4bit_quant_type", "compute_dtype": "bnb_4bit_compute_dtype"},
    "model": {"model_name_or_path": "name_or_path", "torch_dtype": "dtype", "name": "name_or_path"},
    "data": {"dataset": "train", "validation": "eval", "test": "eval"},
}
"""Keys of older releases and of other tools -> the current name."""

RESERVED = {
    "training": {
        "gradient_accumulation_steps": "it is derived; set training.global_batch_size",
        "seed": "set the top-level key seed",
        "bf16": "precision follows model.dtype and the machine",
        "fp16": "precision follows model.dtype and the machine",
        "bf16_full_eval": "precision follows model.dtype and the machine",
        "fp16_full_eval": "precision follows model.dtype and the machine",
        "use_cpu": "the device follows the machine",
        "local_rank": "the launcher sets it",
        "model_init_kwargs": "use the model section",
        "trust_remote_code": "set model.trust_remote_code",
        "chat_template_path": "set model.chat_template",
        "dataset_text_field": "use the prompt section",
        "dataset_kwargs": "qdsft prepares the data itself",
        "dataset_num_proc": "qdsft prepares the data itself",
        "remove_unused_columns": "qdsft prepares the data itself",
        "label_names": "qdsft prepares the data itself",
        "assistant_only_loss": "only completion tokens carry loss, always",
        "truncation_mode": "set data.overlength",
        "eos_token": "the chat template decides how a row ends",
        "pad_token": "padding is masked by position, so any token serves",
        "auto_find_batch_size": "it would change training.global_batch_size silently",
        "push_to_hub": "use the command qdsft push after the run",
        "hub_token": "it would be written into files that are uploaded; set the environment variable HF_TOKEN",
        "hub_model_id": "set publish.hub_model_id",
        "hub_private_repo": "set publish.private",
        "hub_strategy": "use the command qdsft push after the run",
        "hub_always_push": "use the command qdsft push after the run",
        "hub_revision": "use the command qdsft push after the run",
        "resume_from_checkpoint": "use the option --resume",
        "deepspeed": "choose it with accelerate launch --config_file accelerate_configs/zero2.yaml",
        "fsdp": "choose it with accelerate launch --config_file",
        "fsdp_config": "choose it with accelerate launch --config_file",
        "parallelism_config": "choose it with accelerate launch --config_file",
        "accelerator_config": "choose it with accelerate launch --config_file",
        "do_train": "use the command qdsft train",
        "do_eval": "use the command qdsft evaluate",
        "do_predict": "use the command qdsft evaluate",
    },
    "lora": {
        "task_type": "it is always CAUSAL_LM",
        "peft_type": "it is always LORA",
        "inference_mode": "an adapter is trained here",
        "base_model_name_or_path": "set model.name_or_path",
        "revision": "set model.revision",
        "auto_mapping": "peft writes it",
        "peft_version": "peft writes it",
    },
}
"""Upstream keys that a recipe must not set -> the reason or the remedy."""
