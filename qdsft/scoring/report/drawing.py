"""Charts drawn with matplotlib, as SVG that fits into a page: its colours, its font, no script and no global style."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from qdsft import figures
from qdsft.scoring.report.text import clean, wrap

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, SIZE = 360.0, 11.0
"""Width of a chart and size of its text, in units of about a CSS pixel."""
CLASSES = ("first", "second")
VARIABLES = {
    figures.PAPER: "--paper",
    figures.INK: "--ink",
    figures.SOFT: "--soft",
    figures.FAINT: "--faint",
    figures.RULE: "--rule",
    figures.FIRST: "--first",
    figures.BAR: "--bar",
    figures.SECOND: "--second",
}
"""The variable of the page's style that replaces each colour, so that a dark page has dark charts."""
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": SIZE,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class _Mark:
    class_: str
    note: str


@dataclass
class Drawing:
    """One chart: axes in a figure of WIDTH x `height`, and the marks that have a class and a tooltip in the SVG."""

    figure: Figure
    axes: Axes
    height: float
    marks: dict[str, _Mark] = field(default_factory=dict)

    @classmethod
    def new(cls, height: float, left: float, right: float, top: float, bottom: float) -> Drawing:
        """Return empty axes between these edges, measured from the upper left corner of the chart."""
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        with rc_context(_SETTINGS):
            figure = Figure(figsize=(WIDTH / 72, height / 72))
            place = (left / WIDTH, 1 - bottom / height, (right - left) / WIDTH, (bottom - top) / height)
            axes = figure.add_axes(place)
        figures.style(axes)
        return cls(figure, axes, height)

    def mark(self, artist: Artist, class_: str, note: str = "") -> None:
        """Give an artist a class in the SVG, and the text that a browser shows when the pointer is over it."""
        name = f"mark{len(self.marks)}"
        artist.set_gid(name)
        artist.set_clip_on(False)
        self.marks[name] = _Mark(class_, note)

    def text(self, text: str, x: float, y: float, align: str) -> None:
        """Write text at (x, y), measured from the upper left corner of the chart."""
        place = (x / WIDTH, 1 - y / self.height)
        self.figure.text(*place, clean(text), color=figures.INK, ha=align, va="baseline", size=SIZE)

    def legend(self, handles: Sequence[Artist], names: Sequence[str]) -> None:
        """Name the series in the upper right corner."""
        fitting = [wrap(clean(name), 110, SIZE, 1)[0] for name in names]
        self.figure.legend(
            handles,
            fitting,
            loc="upper right",
            bbox_to_anchor=(1, 1),
            ncols=2,
            frameon=False,
            labelcolor=figures.INK,
            fontsize=SIZE,
            borderpad=0,
            borderaxespad=0.1,
            handlelength=1.5,
            handletextpad=0.5,
            columnspacing=1.2,
        )

    def svg(self, title: str) -> Markup:
        """Return the chart as one `<svg>` element, equal for equal input; `title` is its accessible name."""
        from matplotlib import rc_context

        title = clean(title)
        written = io.BytesIO()
        with rc_context({**_SETTINGS, "svg.hashsalt": title}), warnings.catch_warnings():
            # The browser draws the text, so a glyph that matplotlib's own font lacks does not matter.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(written, format="svg", transparent=True, metadata=_NO_METADATA)
        root = ElementTree.fromstring(written.getvalue())
        self._adapt(root)
        described = ElementTree.Element("title")
        described.text = title
        root.insert(0, described)
        root.attrib = {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "chart",
            "viewBox": f"0 0 {WIDTH:g} {self.height:g}",
            "width": f"{WIDTH:g}",
            "height": f"{self.height:g}",
            "role": "img",
            "aria-label": title,
        }
        return Markup(ElementTree.tostring(root, encoding="unicode"))

    def _adapt(self, root: ElementTree.Element) -> None:
        """Remove what only a separate SVG file needs, and set the colours and classes of the page."""
        linked = {link.removeprefix("#") for element in root.iter() if (link := element.get(_LINK))}
        for element in root.iter():
            # Matplotlib's <style> has a rule for all elements, which would apply to the whole page.
            element[:] = [child for child in element if not _is_global(child)]
        for element in list(root.iter()):
            element.tag = element.tag.removeprefix(_SVG)
            element.text, element.tail = ((part or "").strip() for part in (element.text, element.tail))
            name = element.get("id", "")
            element.attrib = {
                key.replace(_LINK, "href"): _short(key, value)
                for key, value in element.items()
                if key not in {"id", "clip-path", "transform"}
            }
            if name in linked:
                element.set("id", name)
            if name in self.marks:
                element.set("class", self.marks[name].class_)
                note = ElementTree.Element("title")
                note.text = clean(self.marks[name].note)
                element[:0] = [note] if note.text else []


def _is_global(element: ElementTree.Element) -> bool:
    return any(element.find(f"{_SVG}{tag}") is not None for tag in ("style", "clipPath"))


def _short(key: str, value: str) -> str:
    if key == "style":
        for color, variable in VARIABLES.items():
            value = value.replace(color, f"var({variable})")
        return re.sub("font-family: [^;]*; ", "", value)
    if key in {"d", "x", "y"}:
        return re.sub(r"\s+", " ", re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}", value)).strip()
    return value


def short(value: float) -> str:
    """Return a tick's value as briefly as it can be read: 0.05, 12, 1.5k, 2M, 5e-5."""
    size = abs(value)
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if factor <= size < factor * 1000:
            return f"{value / factor:.3g}{unit}"
    if size and (size < 1e-3 or size >= 1e12):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.3g}"
