"""The metrics of one model, as metrics.json has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from qdsft.errors import UserError
from qdsft.metrics.intervals import Interval
from qdsft.metrics.numbers import is_number, number_in


@dataclass(frozen=True)
class GroupMetrics:
    """The metrics of the rows of one group."""

    samples: int
    means: dict[str, float] = field(default_factory=dict)

    def get(self, key: str) -> float | None:
        """Return a metric, or the number of rows under `samples`; None if it is missing or not finite."""
        return number_in({**self.means, "samples": self.samples}, key)


@dataclass(frozen=True)
class PairedDifference:
    """The mean difference of two metrics of the same rows."""

    mean: float
    interval: Interval


@dataclass(frozen=True)
class Decoding:
    """What decoding the rows took."""

    loss: float
    """Nats per supervised token, over all rows together."""
    seconds: float
    """The sum over processes."""
    new_tokens: int
    new_tokens_per_second: float | None
    """Of one process; None if decoding took no measurable time."""


@dataclass(frozen=True)
class ModelMetrics:
    """Means over the rows that have a metric, their 95 % intervals, and the same means for groups of rows."""

    samples: int
    means: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)
    differences: dict[str, PairedDifference] = field(default_factory=dict)
    """Metric -> its difference from the metric that `Metric.compared_to` names."""
    groups: dict[str, dict[str, GroupMetrics]] = field(default_factory=dict)
    """`language`, `steps` or `source` -> name of the group -> its metrics."""
    decoding: Decoding | None = None
    """None for predictions that were not decoded by qdsft."""

    def numbers(self) -> dict[str, float | None]:
        """Return every number under its key in metrics.json."""
        return {**self.means, "samples": self.samples, **(asdict(self.decoding) if self.decoding else {})}

    def get(self, key: str) -> float | None:
        """Return the number under a key; None if it is missing or not finite."""
        return number_in(self.numbers(), key)

    def group(self, kind: str) -> dict[str, GroupMetrics]:
        """Return the groups of a kind by name; empty if there are none."""
        return self.groups.get(kind, {})

    def to_json(self) -> dict[str, Any]:
        """Return the model's part of metrics.json. Intervals, differences and groups are left out if there are none."""
        parts: dict[str, Any] = {}
        if self.intervals:
            parts["intervals"] = {key: list(interval) for key, interval in self.intervals.items()}
        if self.differences:
            parts["differences"] = {
                key: {"mean": one.mean, "interval": list(one.interval)} for key, one in self.differences.items()
            }
        if self.groups:
            parts["groups"] = {
                kind: {name: {**group.means, "samples": group.samples} for name, group in groups.items()}
                for kind, groups in self.groups.items()
            }
        decoding = asdict(self.decoding) if self.decoding else {}
        return {**self.means, "samples": self.samples, **parts, **decoding}


def parse_model_metrics(value: object, where: str) -> ModelMetrics:
    """Return one model's part of a metrics.json; raises UserError that begins with `where` if it is damaged.

    Files of earlier versions may lack intervals, differences, groups and values of decoding.
    """
    content = dict(_mapping(value, where))
    intervals = {
        key: _interval(pair, where, key) for key, pair in _mapping(content.pop("intervals", {}), where).items()
    }
    differences = {
        key: _difference(dict(_mapping(pair, where)), where, key)
        for key, pair in _mapping(content.pop("differences", {}), where).items()
    }
    groups = {
        kind: {str(name): _group(group, where) for name, group in _mapping(found, where).items()}
        for kind, found in _mapping(content.pop("groups", {}), where).items()
    }
    decoding = None
    if "loss" in content:
        decoding = _decoding(content, where)
    samples, means = _counted(content, where)
    return ModelMetrics(samples, means, intervals, differences, groups, decoding)


def _difference(content: dict[str, Any], where: str, key: str) -> PairedDifference:
    name = f"the difference of {key}"
    return PairedDifference(_number(content.get("mean"), where, name), _interval(content.get("interval"), where, name))


def _decoding(content: dict[str, Any], where: str) -> Decoding:
    """Take the values of decoding out of `content`."""
    speed = content.pop("new_tokens_per_second", None)
    return Decoding(
        loss=_number(content.pop("loss"), where, "loss"),
        seconds=_number(content.pop("seconds", 0.0), where, "seconds"),
        new_tokens=_count(content.pop("new_tokens", 0), where, "new_tokens"),
        new_tokens_per_second=None if speed is None else _number(speed, where, "new_tokens_per_second"),
    )


def _group(value: object, where: str) -> GroupMetrics:
    return GroupMetrics(*_counted(dict(_mapping(value, where)), where))


def _counted(content: dict[str, Any], where: str) -> tuple[int, dict[str, float]]:
    """Return the number of rows and the other numbers."""
    samples = _count(content.pop("samples", None), where, "samples")
    return samples, {key: _number(number, where, key) for key, number in content.items()}


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _damaged(where, f"{str(value)[:40]!r} is not an object")
    return value


def _interval(value: object, where: str, key: str) -> Interval:
    if not isinstance(value, list) or len(value) != 2:
        raise _damaged(where, f"the interval of {key} is not [low, high]")
    low, high = (_number(number, where, f"the interval of {key}") for number in value)
    return low, high


def _count(value: object, where: str, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _damaged(where, f"{key} is not a whole number")
    return value


def _number(value: Any, where: str, key: str) -> float:
    if not is_number(value):
        raise _damaged(where, f"{key} is not a number")
    number: float = value
    return number


def _damaged(where: str, reason: str) -> UserError:
    return UserError(f"{where}: {reason}; evaluate again")
