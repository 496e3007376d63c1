"""report.html: complete, safe for any text of a model, and readable on a phone, a desktop and paper."""

from __future__ import annotations

import json
import math
import re
import subprocess
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import CHROMIUM, browser
from helpers.report_inputs import manifest, metrics, odd_rows, prediction, predictions, write_log
from helpers.svg_checks import Page, drawings, parse

from qdsft.errors import UserError
from qdsft.metrics.model_metrics import GroupMetrics, ModelMetrics
from qdsft.metrics.prediction_rows import PredictionRow
from qdsft.runs.facts import BaseModelFacts
from qdsft.scoring.report import render_report, write_report

ROWS = predictions(60)
TUNED, BASELINE = metrics(ROWS), metrics(ROWS, worse=0.2)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-<full>"
    path.mkdir()
    write_log(path)
    return path


def test_the_page_is_whole_and_needs_nothing_else(run_dir: Path) -> None:
    path = write_report(run_dir, manifest(), {"tuned": TUNED, "baseline": BASELINE}, ROWS)
    assert path == run_dir / "report.html" and list(run_dir.glob(".*")) == []
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "base"} == set()
    assert not re.search(r"\b(src|srcset|on\w+)=|@import|url\(", html)
    assert [link["href"] for link in page.named("a")] == [f"#{part['id']}" for part in page.named("section")]
    assert [part["id"] for part in page.named("section")] == [
        *("results", "training", "distributions", "groups", "faults", "examples", "run")
    ]
    assert len(drawings(html)) > 15
    for drawing in drawings(html):
        parse(drawing)
    for said in ("tiny-<full>", "fine-tuned on 9,808 rows", "CPU, 2 threads", "torch 2.13.0", "4 min"):
        assert said in page.text


def test_the_page_depends_on_its_input_alone(run_dir: Path) -> None:
    results = {"tuned": TUNED, "baseline": BASELINE}
    assert render_report(run_dir, manifest(), results, ROWS) == render_report(run_dir, manifest(), results, ROWS)


def test_predictions_without_a_run_have_no_curves(run_dir: Path) -> None:
    page = Page(render_report(run_dir, None, {"tuned": TUNED}, ROWS))
    assert {part["id"] for part in page.named("section")} == {
        *("results", "distributions", "groups", "faults", "examples")
    }
    assert "60 held-out questions" in page.text and "baseline" not in page.text


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"report\.html: cannot be written"):
        write_report(tmp_path / "missing", None, {"tuned": TUNED}, ROWS)


@pytest.mark.parametrize(
    ("results", "rows"),
    [
        ({}, []),
        ({"tuned": ModelMetrics(1, {})}, [PredictionRow(question="", gold="", scores={})]),
        ({"tuned": ModelMetrics(0, {"sari": 1e300})}, [PredictionRow(question="q", gold=["a"], scores={"sari": None})]),
        ({"tuned": ModelMetrics(1, {"exact_match": math.nan, "sari": math.nan, "empty_step": math.nan})}, []),
        (
            {
                "tuned": ModelMetrics(1, {}, groups={"language": {"en": GroupMetrics(1)}, "steps": {}}),
                "baseline": ModelMetrics(1, {"sari": 0.5}),
            },
            [PredictionRow(question="q", gold=["a"], sub_questions=[], scores={"sari": math.nan, "chrf": 1e300})],
        ),
    ],
)
def test_missing_parts_are_left_out(
    tmp_path: Path, results: dict[str, ModelMetrics], rows: list[PredictionRow]
) -> None:
    html = render_report(tmp_path, None, results, rows)
    assert "nan" not in Page(html).text and "None" not in Page(html).text
    for drawing in drawings(html):
        parse(drawing)


def test_a_text_task_shows_its_texts(tmp_path: Path) -> None:
    rows = [
        PredictionRow(
            question=f"row {place}",
            gold="a <b>",
            text="c & d",
            scores={"exact_match": float(place % 2), "chrf": place / 9},
        )
        for place in range(9)
    ]
    page = Page(render_report(tmp_path, None, {"tuned": ModelMetrics(9, {"exact_match": 0.5})}, rows))
    assert page.text.count("a <b>") == page.text.count("c & d") == 9
    assert page.text.index("row 0") < page.text.index("row 8")


@pytest.mark.parametrize("row", odd_rows(), ids=lambda row: row.question[:12].strip("<>/'").encode().hex())
def test_whatever_a_model_wrote_is_text(tmp_path: Path, row: PredictionRow) -> None:
    html = render_report(tmp_path, None, {"tuned": metrics([row])}, [row])
    html.encode("utf-8")
    page = Page(html)
    expected = Page(render_report(tmp_path, None, {"tuned": metrics([row])}, [prediction("a", ["b"], ["c"])]))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in expected.tags} | {"br", "path", "tspan", "text"}
    assert len(html) < 150_000
    for drawing in drawings(html):
        parse(drawing)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    hostile = "</td><script>x</script>"
    results = {hostile: replace(TUNED, groups={hostile: {hostile: GroupMetrics(3, {"sari": 0.5})}})}
    rows = [ROWS[0].model_copy(update={"language": hostile, "source": hostile, "problems": [hostile]})]
    facts = manifest().model_copy(update={"git": hostile, "base_model": BaseModelFacts(name_or_path=hostile)})
    html = render_report(tmp_path, facts, results, rows)
    Page(html)
    assert "<script" not in html and 'lang="<' not in html


def rendered(path: Path, script: str, width: int) -> Any:
    """What `script`, a JavaScript expression, gives on the page in a window of this width, through JSON."""
    assert CHROMIUM is not None
    # In a frame, since a window of Chromium is 500 pixels wide at least.
    inside = escape(path.read_text(encoding="utf-8"))
    call = f"page.contentWindow.eval({json.dumps(f'({script})')})"
    write = f"document.documentElement.dataset.found = JSON.stringify({call})"
    frame = path.with_name("frame.html")
    frame.write_text(
        f'<!doctype html><meta charset="utf-8"><iframe id="page" srcdoc="{inside}" style="width: {width}px"></iframe>'
        f"<style>iframe {{ border: 0; height: 900px }}</style><script>onload = () => {{ {write} }}</script>",
        encoding="utf-8",
    )
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,900"]
    command = [CHROMIUM, *arguments, f"--user-data-dir={path.parent / 'profile'}", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<html data-found="(.*?)"', done.stdout)
    assert found is not None, done.stderr
    return json.loads(unescape(found[1]))


OVERFLOW = """{
  width: innerWidth, page: document.documentElement.scrollWidth,
  out: [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg') &&
    e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))
}"""
TEXT_OUT = """[...document.querySelectorAll('svg')].flatMap(svg => [...svg.querySelectorAll('text')].filter(t => {
  const b = t.getBBox(), box = t.closest('.missing, .box')?.querySelector(':scope > rect');
  const f = box ? box.getBBox() : svg.viewBox.baseVal;
  return b.x < f.x - 1 || b.x + b.width > f.x + f.width + 1 || b.y < f.y - 3 || b.y + b.height > f.y + f.height + 3;
}).map(t => t.textContent))"""


@browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("rows", [predictions(200), odd_rows()], ids=["usual", "odd"])
def test_it_fits_the_window_and_texts_fit_their_boxes(run_dir: Path, rows: list[PredictionRow], width: int) -> None:
    path = write_report(run_dir, manifest(), {"tuned": metrics(rows), "baseline": metrics(rows, worse=0.3)}, rows)
    sizes = rendered(path, OVERFLOW, width)
    assert sizes == {"width": width, "page": width, "out": []}
    assert rendered(path, TEXT_OUT, width) == []


@browser
@pytest.mark.slow
def test_the_checks_in_the_browser_see_what_does_not_fit(run_dir: Path) -> None:
    path = write_report(run_dir, manifest(), {"tuned": TUNED}, ROWS)
    html = path.read_text(encoding="utf-8")
    spoilt = html.replace("<h1>", "<h1 style='width: 500px'>").replace("<tspan", "<tspan font-size='30'")
    path.write_text(spoilt, encoding="utf-8")
    assert rendered(path, OVERFLOW, 360)["out"] != [] and rendered(path, TEXT_OUT, 360) != []


@browser
@pytest.mark.slow
def test_it_can_be_seen_and_printed(run_dir: Path) -> None:
    path = write_report(run_dir, manifest(), {"tuned": TUNED, "baseline": BASELINE}, ROWS)
    assert CHROMIUM is not None
    picture, paper = run_dir / "page.png", run_dir / "page.pdf"
    for flags in (["--window-size=360,800", f"--screenshot={picture}"], [f"--print-to-pdf={paper}"]):
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={run_dir / 'profile'}"]
        subprocess.run([CHROMIUM, *arguments, *flags, path.as_uri()], capture_output=True, timeout=120, check=True)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size > 10_000
    assert paper.read_bytes()[:5] == b"%PDF-" and paper.stat().st_size > 50_000
