"""Pictures drawn with matplotlib share one style and leave no state behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import get_backend, pyplot, rcParams

from qdsft.figures import RULE, SERIES, new_figure, save_figure


def test_axes_share_the_style_and_pyplot_knows_nothing_of_them() -> None:
    backend, settings = get_backend(), dict(rcParams)
    figure = new_figure(4, 3, rows=2, columns=2)
    for axes in figure.axes:
        (line,) = axes.plot([1, 2], [1, 2])
        assert line.get_color() == SERIES[0] and axes.xaxis.get_gridlines()[0].get_color() == RULE
        assert [name for name, spine in axes.spines.items() if spine.get_visible()] == ["bottom"]
    assert len(figure.axes) == 4 and pyplot.get_fignums() == []
    assert get_backend() == backend and dict(rcParams) == settings


@pytest.mark.parametrize(("kind", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_is_written_or_not_at_all(tmp_path: Path, kind: str, begin: bytes) -> None:
    path = tmp_path / f"a.{kind}"
    save_figure(new_figure(2, 1), path, kind)
    assert path.read_bytes().startswith(begin) and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        save_figure(new_figure(2, 1), tmp_path / "missing" / "a.png", kind)
