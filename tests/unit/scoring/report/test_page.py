"""report.html: complete, whole, safe whatever a model wrote, and fit for a phone, a desk and paper."""

from __future__ import annotations

import json
import re
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import CHROMIUM, browser
from helpers.report_inputs import manifest, metrics, odd_rows, prediction, predictions, write_log
from helpers.svg_checks import Page, parse, texts

from qdsft.errors import UserError
from qdsft.runs.facts import BaseModelFacts
from qdsft.scoring.report import render_report, write_report
from qdsft.scoring.report.curves import curves_section, distributions_section, read_log
from qdsft.scoring.report.examples import LONGEST_TEXT, MEDIAN, WORST, examples_section
from qdsft.scoring.report.results import GROUP_COLUMNS, MOST_GROUPS, faults_section, groups_section, results_section

ROWS = predictions(60)
TUNED, BASELINE = metrics(ROWS), metrics(ROWS, worse=0.2)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-<full>"
    path.mkdir()
    write_log(path)
    return path


def drawings(html: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", html, re.DOTALL)


def cells(html: str) -> list[list[str]]:
    """The text of every table row, cell by cell."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [[Page(cell).text for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


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
        ({"tuned": {}}, [{}]),
        (
            {"tuned": {"samples": 1, "sari": None, "groups": None, "intervals": None}},
            [{"question": None}],
        ),
        ({"tuned": {"groups": {"language": {"en": None, "ko": {}}, "steps": []}}}, [{"gold": ["a"], "text": "1. a"}]),
        (
            {"tuned": {"exact_match": 0.5, "intervals": {"exact_match": [0]}}},
            [{"gold": "a", "scores": None}],
        ),
        ({"tuned": {"groups": {"steps": {"2": {"sari": 1}}}}, "baseline": {"groups": None}}, [{"scores": [1]}]),
        ({"tuned": {"sari": 10**400, "samples": 3, "empty_step": float("nan")}}, [{"scores": {"chrf": 10**400}}]),
        ({"tuned": {"exact_match": float("nan"), "sari": float("nan")}}, [{"scores": {"sari": float("nan")}}]),
    ],
)
def test_what_is_missing_is_left_out(tmp_path: Path, results: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    html = render_report(tmp_path, None, results, rows)
    assert "nan" not in Page(html).text and "None" not in Page(html).text
    for drawing in drawings(html):
        parse(drawing)


def test_a_text_task_shows_its_texts(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": f"row {place}", "gold": "a <b>", "text": "c & d"} for place in range(9)]
    for place, row in enumerate(rows):
        row["scores"] = {"exact_match": place % 2, "chrf": place / 9}
    page = Page(render_report(tmp_path, None, {"tuned": {"exact_match": 0.5, "samples": 9}}, rows))
    assert page.text.count("a <b>") == page.text.count("c & d") == 9
    assert page.text.index("row 0") < page.text.index("row 8")


@pytest.mark.parametrize("row", odd_rows(), ids=lambda row: row["question"][:12].strip("<>/'").encode().hex())
def test_whatever_a_model_wrote_is_text(tmp_path: Path, row: dict[str, Any]) -> None:
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
    results = {hostile: {**TUNED, "groups": {hostile: {hostile: {"samples": 3, "sari": 0.5}}}}}
    rows = [{**ROWS[0], "language": hostile, "source": hostile, "problems": [hostile]}]
    facts = manifest().model_copy(update={"git": hostile, "base_model": BaseModelFacts(name_or_path=hostile)})
    html = render_report(tmp_path, facts, results, rows)
    Page(html)
    assert "<script" not in html and 'lang="<' not in html


def test_headline_values_stand_beside_their_intervals_and_the_baseline() -> None:
    text = Page(results_section({"tuned": TUNED, "baseline": BASELINE})).text
    low, high = TUNED["intervals"]["exact_match"]
    values = (TUNED["exact_match"], low, high, BASELINE["exact_match"])
    assert "exact match{:.3f}{:.3f} to {:.3f}baseline {:.3f}".format(*values) in text


def test_every_metric_says_what_it_means_and_which_way_is_better() -> None:
    table = {row[0]: row[1:] for row in cells(results_section({"tuned": {**TUNED, "ged": 0.25}, "baseline": BASELINE}))}
    (distance,) = (name for name in table if name.startswith("GED"))
    assert distance.endswith("lower is better") and table[distance] == ["0.250", "–"]
    (loss,) = (name for name in table if name.startswith("loss"))
    assert loss.endswith("lower is better") and table[loss] == ["0.410", "0.610"]
    (rows,) = (name for name in table if name.startswith("rows"))
    assert "better" not in rows and table[rows] == ["60", "60"]


def test_groups_are_tables_and_bars() -> None:
    html = groups_section({"tuned": TUNED, "baseline": BASELINE})
    english = TUNED["groups"]["language"]["en"]
    columns = [key for key in GROUP_COLUMNS if key in english]
    assert ["en", "30", *(f"{english[key]:.3f}" for key in columns)] in cells(html)
    assert [parse(drawing).get("aria-label") for drawing in drawings(html)] == [
        *("SARI by language", "SARI by steps", "SARI by source")
    ]
    for name, value in (("tuned", english["sari"]), ("baseline", english["sari"] - 0.2)):
        assert f"en: {name} {value:.3f}" in html


def test_groups_of_steps_are_in_the_order_of_numbers_and_many_are_cut() -> None:
    steps = {str(n): {"samples": n, "sari": 0.5} for n in (10, 9, 2)}
    sources = {f"source {n}": {"samples": n, "sari": 0.5} for n in range(30)}
    html = groups_section({"tuned": {"groups": {"steps": steps, "source": sources}}})
    names = [row[0] for row in cells(html)]
    assert names[:5] == ["steps", "2", "9", "10", "source"] and len(names) == 5 + MOST_GROUPS
    assert names[5] == "source 29" and "10 more groups" in html


def test_faults_are_counted_in_rows() -> None:
    html = faults_section({"tuned": {"samples": 40, "dangling_reference": 0.075, "empty_step": 0.0}})
    assert [row[1] for row in cells(html)] == ["tuned", "37.5%", "00.0%"]
    assert faults_section({"tuned": {"samples": 40}}) == ""


def test_the_log_is_read_past_damage_and_a_resumed_step_counts_once(run_dir: Path) -> None:
    path = run_dir / "log.jsonl"
    lines = [{"step": 1, "loss": 9.0}, {"step": 2, "loss": 8.0}, {"step": 2, "loss": 4.0}, {"step": 3, "loss": 3.0}]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n[1]\n{"step": 4, "lo', encoding="utf-8")
    entries, damaged = read_log(path)
    assert (len(entries), damaged) == (4, 2)
    html = curves_section(entries, damaged)
    assert "training 3 at the end" in html and "Lines of the log that cannot be read: 2." in html
    assert len(re.findall("<use", html)) == 3
    assert read_log(run_dir / "nothing.jsonl") == ([], 0)
    with pytest.raises(UserError, match="cannot be read"):
        read_log(run_dir)


def test_curves_show_loss_rate_and_logged_metrics(run_dir: Path) -> None:
    html = curves_section(*read_log(run_dir / "log.jsonl"))
    names = re.findall(r"<figcaption><b>(.*?)</b>", html)
    assert names == ["Loss", "Learning rate", "SARI", "Gradient norm"]
    assert {"training", "held out", "nats per token, log scale"} <= set(texts(parse(drawings(html)[0])))


def test_a_loss_that_is_not_finite_is_said() -> None:
    html = curves_section([{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 10**400}])
    assert "losses that are not finite numbers: 2." in html
    assert curves_section([{"step": 1, "train_runtime": 2.0}]) == ""


def test_distributions_count_every_row() -> None:
    html = distributions_section(ROWS)
    score, steps, lengths = drawings(html)
    for drawing, name in ((score, "rows"), (steps, "predicted"), (lengths, "predicted")):
        assert sum(int(n) for n in re.findall(rf": (\d+) {name}<", drawing)) == len(ROWS)


def test_the_worst_and_the_median_rows_are_shown_in_their_order() -> None:
    rows = predictions(100, spoilt=1.0)
    html = examples_section(rows)
    ranks = [int(rank) for rank in re.findall(r'class="note">(\d+) of 100', html)]
    assert ranks == [*range(1, WORST + 1), *range(49, 49 + MEDIAN)]
    shown = [rows[int(index) - 1]["scores"] for index in re.findall(r"of 100 · row (\d+)", html)]
    order = sorted((row["scores"]["sari"], row["scores"]["step_f1"]) for row in rows)
    assert [(one["sari"], one["step_f1"]) for one in shown] == [order[rank - 1] for rank in ranks]
    assert len(drawings(html)) == 2 * (WORST + MEDIAN)


def test_a_row_without_a_score_is_not_the_worst() -> None:
    rows = [prediction("unscored?", ["a"], ["b"]), prediction("scored?", ["a"], ["b"])]
    rows[0]["scores"] = {"sari": None}
    text = Page(examples_section(rows)).text
    assert text.index("row 2") < text.index("row 1")


def test_steps_of_one_side_alone_are_marked() -> None:
    html = examples_section([prediction("q?", ["Who  wrote it?", "When?"], ["who wrote it?", "Where?"])])
    marked = re.findall(r'class="box marked"><title>(.*?)</title>', html)
    assert marked == ["2. When?", "2. Where?"]


def test_long_texts_are_cut_with_their_length() -> None:
    html = examples_section([prediction("q" * 1000, ["a"], ["b" * (LONGEST_TEXT + 1)])])
    assert "… 400 more characters" in html and "… 1 more characters" in html


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
def test_it_fits_the_window_and_texts_fit_their_boxes(run_dir: Path, rows: list[dict[str, Any]], width: int) -> None:
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
