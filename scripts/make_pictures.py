"""Draw the decomposition graphs in docs/images with the renderer of the report.

python scripts/make_pictures.py            write the files
python scripts/make_pictures.py --check    exit 1 if a committed file differs
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from qdsft.data.decomposition import Decomposition
from qdsft.scoring.report.graph_svg import draw_graph
from qdsft.scoring.report.page import STYLE

FOLDER = Path(__file__).parent.parent / "docs" / "images"
STEPS = {
    "decomposition.svg": (
        "Are more people today related to Genghis Khan than Julius Caesar?",
        ["How many kids did Julius Caesar have?", "How many kids did Genghis Khan have?", "Is #2 greater than #1?"],
    ),
    "decomposition.ko.svg": (
        "경기도와 강원특별자치도 양쪽에 모두 맞닿아 있는 광역자치단체는 어디인가요?",
        [
            "경기도와 맞닿아 있는 광역자치단체는 어디인가요?",
            "강원특별자치도와 맞닿아 있는 광역자치단체는 어디인가요?",
            "#1, #2 양쪽에 모두 있는 곳은 어디인가요?",
        ],
    ),
}
FONT = 'font-family: system-ui, "Segoe UI", Roboto, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", sans-serif'


def standalone_style() -> str:
    """Return the CSS rules of the report that a graph needs outside of a page."""
    colours = STYLE[: STYLE.index("* {")].strip()
    rules = re.findall(r"^(?:\.graph \.|\.graph text|\.box|\.missing).*$", STYLE, re.M)
    return "\n".join([colours, f"svg {{ {FONT} }}", *rules])


def pictures() -> dict[str, str]:
    """Return the pictures by file name."""
    style = f"<style>\n{standalone_style()}\n</style>"
    drawn = {
        name: draw_graph(Decomposition(tuple(steps)), question).replace("</title>", f"</title>{style}", 1)
        for name, (question, steps) in STEPS.items()
    }
    return {name: f"{svg}\n" for name, svg in drawn.items()}


def main() -> int:
    drawn = pictures()
    if "--check" in sys.argv[1:]:
        old = [n for n, svg in drawn.items() if not (p := FOLDER / n).is_file() or p.read_text(encoding="utf-8") != svg]
        print(
            f"out of date: {', '.join(old)}; run python scripts/make_pictures.py" if old else "pictures are up to date"
        )
        return 1 if old else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, svg in drawn.items():
        (FOLDER / name).write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
