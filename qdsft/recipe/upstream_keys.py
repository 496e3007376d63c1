"""The upstream class of each section, and the keys that qdsft renames, reserves or refuses."""

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
        "hub_private_repo": "give --public to qdsft push if others may see it",
        "hub_strategy": "use the command qdsft push after the run",
        "hub_always_push": "use the command qdsft push after the run",
        "hub_revision": "use the command qdsft push after the run",
        "shuffle_dataset": "the trainer shuffles the rows in each epoch",
        "length_column_name": "the lengths are those of the prepared rows",
        "prediction_loss_only": "evaluation during training takes only the loss; qdsft evaluate scores answers",
        "include_for_metrics": "evaluation during training takes only the loss; qdsft evaluate scores answers",
        "batch_eval_metrics": "evaluation during training takes only the loss; qdsft evaluate scores answers",
        "eval_do_concat_batches": "evaluation during training takes only the loss; qdsft evaluate scores answers",
        "eval_use_gather_object": "evaluation during training takes only the loss; qdsft evaluate scores answers",
        "eval_accumulation_steps": "evaluation during training takes only the loss, so nothing accumulates",
        "restore_callback_states_from_checkpoint": "no callback of qdsft keeps a state",
        "enable_jit_checkpoint": "a run saves a checkpoint on SIGTERM in any case",
        "ddp_backend": "it is nccl on GPUs and gloo on CPUs",
        "resume_from_checkpoint": "use the option --resume",
        "save_only_model": "a checkpoint without the optimizer cannot be resumed; lower training.save_total_limit",
        "ignore_data_skip": "a resumed run must see the rows that an uninterrupted run sees",
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
        "fan_in_fan_out": "peft sets it for the kind of layer",
        "megatron_config": "the models are not those of Megatron",
        "megatron_core": "the models are not those of Megatron",
        "loftq_config": "LoftQ changes the base model, so the adapter would not fit the unmodified one",
        "corda_config": "CorDA is not supported; set lora.init_lora_weights: eva, which also starts from the data",
        "lora_ga_config": "LoRA-GA is not supported; set lora.init_lora_weights: eva, which also starts from the data",
        "runtime_config": "it is for base weights in main memory, and here they are on the GPU",
        "use_qalora": "PEFT implements it for GPTQ only, and quantization here is by bitsandbytes",
        "qalora_group_size": "PEFT implements QALoRA for GPTQ only, and quantization here is by bitsandbytes",
        "arrow_config": "it routes between several trained adapters, and a run trains one",
        "alora_invocation_tokens": "an activated LoRA only acts after these tokens, which no prompt here contains",
        "monteclora_config": "its regularisation is a term of the loss that TRL's trainer does not add",
        "kasa_config": "KaSA changes the base model, so the adapter would not fit the unmodified one",
        "layer_replication": "it changes the number of layers, which planning and merging do not model",
    },
    "publish": {"private": "give --public to qdsft push if others may see it"},
    "quantization": {
        "llm_int8_enable_fp32_cpu_offload": "the whole model is loaded on one device",
    },
}
"""Upstream keys that a recipe must not set -> the reason or the remedy."""

PISSA_NITER = r"^pissa_niter_\d+$"
_INSTEAD = "set pissa, olora, eva or true"
REFUSED_VALUES = {
    "lora.init_lora_weights": {
        "loftq": f"LoftQ changes the base model, so the adapter would not fit the unmodified one; {_INSTEAD}",
        "corda": f"CorDA needs a pass over the data that qdsft does not make; {_INSTEAD}",
        "lora_ga": f"LoRA-GA needs gradients of the base model that qdsft does not compute; {_INSTEAD}",
        "pissa_niter_[number of iters]": "write the number of iterations, such as pissa_niter_4",
    },
}
"""Values of upstream keys that are refused with a reason. The schema does not have them."""
