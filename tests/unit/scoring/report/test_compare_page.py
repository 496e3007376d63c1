"""A comparison as text and as a page: the same numbers, and every changed row."""

from __future__ import annotations

from helpers.svg_checks import Page, cells

from qdsft.scoring.compare import ChangedRow, Comparison, Comparisons, Difference
from qdsft.scoring.report.compare_page import LISTED, comparison_lines, comparison_page

HOSTILE = "</li><script>x</script>"


def difference(*, significant: bool) -> Difference:
    return Difference(0.5, 0.75, 0.25, (0.125, 0.375), 0.01, significant, wins=7, ties=2, losses=1)


FOUND = Comparisons(
    first="a",
    rows=10,
    resamples=1000,
    comparisons=[
        Comparison(
            name=HOSTILE,
            metrics={"exact_match": difference(significant=True), "another": difference(significant=False)},
            gained=[ChangedRow(row, f"Question {row}?") for row in range(1, LISTED + 3)],
            lost=[ChangedRow(7, HOSTILE)],
        )
    ],
)
CELLS = ["0.500", "0.750", "+0.250", "+0.125 to +0.375", "0.0100", "7/2/1"]


def test_lines_mark_significant_differences_and_list_some_rows() -> None:
    lines = list(comparison_lines(FOUND))
    (exact,) = [line for line in lines if line.startswith("exact match  ")]
    (other,) = [line for line in lines if line.startswith("another")]
    assert exact.split()[2:] == " ".join([*CELLS, "*"]).split() and other.split()[1:] == " ".join(CELLS).split()
    assert "exact match gained by " + HOSTILE + f": {LISTED + 2} rows" in lines
    assert "  and 2 more; --json and --output have all" in lines and f"  7: {HOSTILE}" in lines


def test_the_page_has_the_same_numbers_in_bold_if_significant_and_every_row() -> None:
    html = comparison_page(FOUND)
    assert cells(html)[1:] == [["exact match", *CELLS], ["another", *CELLS]]
    bold = [content for content in html.split("<b>")[1:]]
    assert [content.split("</b>")[0] for content in bold] == ["exact match", *CELLS]
    page = Page(html)
    assert [row["value"] for row in page.named("li")] == [*(str(row) for row in range(1, LISTED + 3)), "7"]
    assert "<script" not in html and page.text.count(HOSTILE) == 2
