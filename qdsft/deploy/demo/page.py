"""The Gradio page of `qdsft demo`: what it shows of a question and its answers, in English and Korean."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from qdsft.data.decomposition import REFERENCE, Decomposition
from qdsft.data.task import Task
from qdsft.errors import UserError
from qdsft.inference.generate import Answer
from qdsft.scoring.report.graph_svg import draw_graph
from qdsft.scoring.report.page import STYLE

WORDS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
"""Language -> name -> text."""
COPIES = {"json": "JSON", "mermaid": "Mermaid", "self-ask": "Self-ask"}
"""Formats that the page offers to copy, with their labels."""
LONGEST_QUESTION = 20_000
"""Characters."""
MOST_WAITING = 20
"""Gradio refuses further questions."""
FONTS = ("system-ui", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", "sans-serif")
MONOSPACE = ("ui-monospace", "Consolas", "D2Coding", "monospace")
"""Installed fonts, so that the page loads none."""
# Answers look as in the reports, in the colors of Gradio's theme, which knows light and dark.
HEAD = f"""<style>.answer {{ {STYLE}
  --paper: var(--background-fill-primary); --wash: var(--background-fill-secondary); --ink: var(--body-text-color);
  --rule: var(--border-color-primary); --soft: #5b646d; --faint: #8b949c; --first: #0a64a4; --first-wash: #e4eff8;
  --bad: #b8400a; --bad-wash: #fdf0e8;
  overflow-wrap: anywhere; word-break: keep-all;
  h3 {{ color: var(--ink) }} pre {{ white-space: pre-wrap }} p {{ margin: .25rem 0 }} figure {{ margin: 1rem 0 0 }}
  .steps {{ padding-left: 1.5rem; list-style: decimal }} .steps li {{ padding: .2rem 0 }}
  .steps b {{ color: var(--first) }} .faults {{ padding-left: 1.5rem; list-style: disc; margin: 0 }} }}
.dark {{ color-scheme: dark }}
.dark .answer {{ --soft: #a3adb6; --first: #6cb6f0; --first-wash: #17324a; --bad: #ff9a62; --bad-wash: #3a2216 }}
</style>"""
Update = dict[Any, Any]
"""Gradio component -> its new value or properties."""
_ONLY_A_NUMBER = re.compile(r"\s*\d+\.?\s*")


@dataclass(frozen=True)
class Model:
    """A model that the page asks."""

    name: str
    task: Task
    stream: Callable[[str], Generator[str | Answer, None, None]]
    """Yields the text written so far, again and again, then the Answer; raises UserError."""


def build_page(models: Sequence[Model], examples: Sequence[str]) -> gr.Blocks:
    """Return the page for `models`, with questions to try."""
    text = gr.I18n(**WORDS)
    with gr.Blocks(analytics_enabled=False, title="qdsft demo") as page:
        page.i18n_instance = text
        gr.Markdown("# " + text("title"))
        question = gr.Textbox(
            label=text("question"), info=text("hint"), lines=1, max_lines=8, autofocus=True, elem_id="question"
        )
        names = [(model.name, number) for number, model in enumerate(models)]
        everyone = list(range(len(models)))
        chosen = gr.CheckboxGroup(names, value=everyone, label=text("models"), visible=len(models) > 1)
        with gr.Row():
            ask = gr.Button(text("ask"), variant="primary", elem_id="ask", scale=3)
            stop = gr.Button(text("stop"), variant="stop", elem_id="stop", scale=1)
        with gr.Row():
            columns = [_Column() for _ in models]
        gr.Examples([[example] for example in examples], [question], label=text("examples"))
        language = gr.Textbox(visible="hidden")  # filled by the browser, which knows the language of the page

        # Gradio's own `cancels` sometimes shows "Error" in the columns, so Stop and a new question raise this number.
        latest: Counter[str | None] = Counter()
        number = gr.State(0)

        def end(request: gr.Request) -> None:
            latest[request.session_hash] += 1

        def begin(request: gr.Request) -> int:
            end(request)
            return latest[request.session_hash]

        def answer(
            question: str, chosen: list[int], language: str, number: int, request: gr.Request
        ) -> Iterator[Update]:
            words = WORDS.get(language, WORDS["en"])
            if problem := request_problem(question, chosen):
                gr.Warning(words[problem])
                return
            for place, column in enumerate(columns):
                yield column.clear(visible=place in chosen)
            for place in chosen:
                for update in columns[place].show(models[place], question, words):
                    yield update
                    if latest[request.session_hash] != number:
                        html = columns[place].html
                        yield {html: update[html] + _note("warn", words["stopped"])}
                        return

        gr.on([question.submit, ask.click], begin, None, number, queue=False, api_visibility="private").then(
            answer,
            [question, chosen, language, number],
            [part for column in columns for part in column.parts],
            js="(question, chosen, _, number) => [question, chosen, document.documentElement.lang, number]",
            api_name="answer",
            trigger_mode="multiple",
        )
        stop.click(end, queue=False, api_visibility="private")
    built: gr.Blocks = page.queue(max_size=MOST_WAITING, default_concurrency_limit=1)
    return built


def request_problem(question: str, chosen: Sequence[int]) -> str | None:
    """Return the name of the word of WORDS that says what is wrong with a request, or None."""
    if not question.strip() or not chosen:
        return "empty"
    is_refused = len(chosen) > len(set(chosen)) or len(question) > LONGEST_QUESTION
    return "refused" if is_refused else None


class _Column:
    """The components that show one model's answer."""

    def __init__(self) -> None:
        with gr.Column(min_width=320) as self._frame:
            self.html = gr.HTML(elem_classes="answer")
            self._copies = {
                fmt: gr.Textbox(label=label, max_lines=4, interactive=False, buttons=["copy"], visible=False)
                for fmt, label in COPIES.items()
            }
        self.parts = [self._frame, self.html, *self._copies.values()]

    def clear(self, *, visible: bool) -> Update:
        hidden = {box: gr.Textbox(visible=False) for box in self._copies.values()}
        return {self._frame: gr.Column(visible=visible), self.html: "", **hidden}

    def show(self, model: Model, question: str, words: dict[str, str]) -> Iterator[Update]:
        name = f"<h3>{escape(model.name)}</h3>"
        yield {self.html: name}
        start = time.monotonic()
        try:
            with closing(model.stream(question)) as pieces:
                for piece in pieces:
                    if isinstance(piece, str):
                        yield {self.html: name + partial_html(model.task, piece)}
                        continue
                    facts = words["facts"].format(tokens=piece.tokens, seconds=time.monotonic() - start)
                    html = answer_html(model.task, question, piece, words)
                    texts = copies(model.task, question, piece.text)
                    boxes = {self._copies[fmt]: gr.Textbox(text, visible=True) for fmt, text in texts.items()}
                    yield {self.html: name + _note("note", facts) + html, **boxes}
        except UserError as error:
            yield {self.html: name + _note("warn", words["error"].format(message=error))}


def partial_html(task: Task, text: str) -> str:
    """Return an answer that is still being written as HTML: a list of steps, or the text of another task."""
    lines = text.split("\n")  # as Decomposition.parse does, unlike splitlines()
    if lines and _ONLY_A_NUMBER.fullmatch(lines[-1]):  # the step after this number has not begun
        lines.pop()
    found = task.parse("\n".join(lines))
    return f"<pre>{escape(text)}</pre>" if isinstance(found, str) else _steps(found)


def answer_html(task: Task, question: str, answer: Answer, words: dict[str, str]) -> str:
    """Return a finished answer as HTML: the steps, what is wrong with them, and the reference graph."""
    cut_off = "" if answer.stopped else _note("warn", words["cut off"].format(tokens=answer.tokens))
    found = task.parse(answer.text)
    if isinstance(found, str):
        return f"<pre>{escape(found)}</pre>{cut_off}"
    html = _steps(found) + cut_off
    if faults := list(found.faults()):
        items = "".join(f"<li>{escape(f'{words[kind]}: {description}')}</li>" for kind, description in faults)
        html += f"{_note('warn', words['faults'])}<ul class='faults warn'>{items}</ul>"
    return f"{html}<figure><figcaption>{words['graph']}</figcaption>{draw_graph(found, question)}</figure>"


def copies(task: Task, question: str, text: str) -> dict[str, str]:
    """Return the answer in the formats of COPIES that can express it: all for a valid decomposition, else JSON."""
    formats = ["json"] if task.problems(text) else [fmt for fmt in COPIES if fmt in task.formats]
    return {fmt: task.show(fmt, question, text).text for fmt in formats}


def _steps(found: Decomposition) -> str:
    # quote=False: "&#39;" would look like a reference.
    items = [REFERENCE.sub(r"<b>#\1</b>", escape(step, quote=False)) for step in found.steps]
    return f"<ol class='steps'>{''.join(f'<li>{item}</li>' for item in items)}</ol>"


def _note(css_class: str, text: str) -> str:
    return f"<p class='{css_class}'>{escape(text)}</p>"
