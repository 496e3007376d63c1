"""Check that the optional packages that a recipe requires are installed, without importing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qdsft.errors import UserError
from qdsft.optional_packages import Package
from qdsft.recipe.recipe import Recipe

LIGER = Package("liger_kernel", "liger-kernel", "liger")
KERNELS = Package("kernels", "kernels>=0.18.2,<0.19")  # the range that transformers 5.23 accepts
FLASH_ATTENTION = {
    "flash_attention_2": Package("flash_attn", "flash-attn"),
    "flash_attention_3": Package("flash_attn_interface", "flash-attn-3"),
    "flash_attention_4": Package("flash_attn", "flash-attn-4"),
}
"""Values of model.attn_implementation. transformers replaces each of them by a kernel of the Hub with KERNELS."""
TRACKERS = {
    "azure_ml": Package("azureml", "azureml-core"),
    "clearml": Package("clearml", "clearml"),
    "codecarbon": Package("codecarbon", "codecarbon"),
    "comet_ml": Package("comet_ml", "comet-ml"),
    "dagshub": Package("dagshub", "dagshub"),
    "dvclive": Package("dvclive", "dvclive"),
    "flyte": Package("flytekit", "flytekit"),
    "mlflow": Package("mlflow", "mlflow"),
    "neptune": Package("neptune", "neptune"),
    "swanlab": Package("swanlab", "swanlab"),
    "tensorboard": Package("tensorboard", "tensorboard", "tensorboard"),
    "trackio": Package("trackio", "trackio", "trackio"),
    "wandb": Package("wandb", "wandb", "wandb"),
}
"""Values of training.report_to."""
OPTIMIZERS = {
    "adalomo": Package("lomo_optim", "lomo-optim"),
    "adamw_anyprecision": Package("torchdistx", "torchdistx"),
    "adamw_torch_4bit": Package("torchao", "torchao>=0.4"),
    "adamw_torch_8bit": Package("torchao", "torchao>=0.4"),
    "adamw_torch_npu_fused": Package("torch_npu", "torch-npu"),
    "adamw_torch_xla": Package("torch_xla", "torch-xla"),
    "apollo_": Package("apollo_torch", "apollo-torch"),
    "galore_": Package("galore_torch", "galore-torch"),
    "grokadamw": Package("grokadamw", "grokadamw"),
    "lomo": Package("lomo_optim", "lomo-optim"),
    "schedule_free_": Package("schedulefree", "schedulefree>=1.4"),
    "stable_adamw": Package("optimi", "torch-optimi"),
}
"""Beginnings of values of training.optim."""


@dataclass(frozen=True)
class Need:
    """A value of a recipe that requires one of several packages."""

    key: str
    value: str
    packages: tuple[Package, ...]
    instead: str
    """A value that requires no package."""


def check_optional_packages(recipe: Recipe) -> None:
    """Raise UserError for the first value of the recipe whose package is not installed."""
    for need in needs(recipe):
        if any(package.is_installed for package in need.packages):
            continue
        names = " or ".join(package.name for package in need.packages)
        commands = " or ".join(package.installation for package in need.packages)
        raise UserError(
            f"{recipe.where(need.key)}: {need.key}: {need.value} requires {names}, which is not installed; {commands}, "
            f"or set {need.key}={need.instead}"
        )


def needs(recipe: Recipe) -> Iterator[Need]:
    """Yield the values of a recipe that require optional packages."""
    if recipe.training_value("use_liger_kernel"):
        yield Need("training.use_liger_kernel", "true", (LIGER,), "false")
    report_to = recipe.training.get("report_to") or []
    for name in [report_to] if isinstance(report_to, str) else report_to:
        if name in TRACKERS:
            yield Need("training.report_to", name, (TRACKERS[name],), "none")
    optimizer = str(recipe.training_value("optim"))
    for beginning, package in OPTIMIZERS.items():
        if optimizer == beginning or (beginning.endswith("_") and optimizer.startswith(beginning)):
            yield Need("training.optim", optimizer, (package,), "adamw_torch")
    attention = recipe.model.attn_implementation
    if attention in FLASH_ATTENTION:
        yield Need("model.attn_implementation", attention, (FLASH_ATTENTION[attention], KERNELS), "auto")
    elif "/" in attention:  # a kernel of the Hub
        yield Need("model.attn_implementation", attention, (KERNELS,), "auto")


def default_report_to() -> str:
    """Return where a run reports to if its recipe does not say: TensorBoard's files if it is installed."""
    return "tensorboard" if TRACKERS["tensorboard"].is_installed else "none"
