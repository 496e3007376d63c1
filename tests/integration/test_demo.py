"""The demo: what its page is told, who waits for whom, and the page itself in a browser, driven by keyboard."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import CHROMIUM, browser
from helpers.paths import ROOT
from helpers.tiny_run import make_run

from qdsft.cli import demo
from qdsft.cli.main import build_parser, main
from qdsft.data.decomposition import Decomposition
from qdsft.data.task import task_of
from qdsft.deploy.demo.page import render_page, script, show_complete, show_partial, style, words
from qdsft.errors import UserError

pytest.importorskip("uvicorn", reason="the extra demo is not installed")
pytest.importorskip("starlette", reason="the extra demo is not installed")

from qdsft.deploy.demo.app import EXAMPLES, examples
from qdsft.deploy.demo.queue import MOST_WAITING, Answering
from qdsft.deploy.listening import listen
from qdsft.inference.loaded_run import load_run
from qdsft.inference.side_by_side import load_columns
from qdsft.recipe.sections import Prompt

FREE_TEXT = task_of(Prompt(user="x", completion="y"))
Capture = pytest.CaptureFixture[str]
QUESTION = "Who is older, Ada or Bo?"
PAGE_FILES = ROOT / "qdsft" / "deploy" / "demo" / "page"


@pytest.fixture(scope="module")
def run_dir(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose answers are long."""
    folder = tmp_path_factory.mktemp("runs") / "long"
    return make_run(folder, tiny_model("llama"), "tiny/full", "evaluation.max_new_tokens=200")


# What the page is told


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        ("1", []),
        ("1. Who", ["Who"]),
        ("1. Who?\n2", ["Who?"]),
        ("1. Who?\n2.", ["Who?"]),
        ("1. Who?\n2. Is #1", ["Who?", "Is #1"]),
        ("no list\nat all", ["no list", "at all"]),
    ],
)
def test_a_step_appears_once_it_has_begun(text: str, steps: list[str]) -> None:
    assert show_partial(task_of(Prompt()), text) == {"steps": steps}


def test_a_whole_answer_has_its_graph_and_copies() -> None:
    shown = show_complete(task_of(Prompt()), "q <b>?", "1. Who?\n2. Is #1 <i>?")
    assert shown["steps"] == ["Who?", "Is #1 <i>?"] and shown["faults"] == []
    assert shown["graph"].startswith("<svg") and "step 2 uses #1" in shown["graph"]
    assert "<i>" not in shown["graph"] and "<b>" not in shown["graph"]
    assert json.loads(shown["copies"]["json"])["sub_questions"] == shown["steps"]
    assert "step1 --> step2" in shown["copies"]["mermaid"]
    assert shown["copies"]["self-ask"].count("Follow up: ") == 2


def test_an_answer_with_faults_names_them_and_is_no_chart() -> None:
    shown = show_complete(task_of(Prompt()), QUESTION, "1. Is #2 older?\n2. Who?")
    assert [kind for kind, _ in shown["faults"]] == ["forward reference"]
    assert list(shown["copies"]) == ["json"]
    for kind, _ in Decomposition(("", "a\nb #2 #3", "#4"), ("x",)).faults():
        assert kind in words()["en"] and kind in words()["ko"]


def test_another_task_is_text() -> None:
    assert show_partial(FREE_TEXT, "abc") == {"text": "abc"}
    shown = show_complete(FREE_TEXT, "q", "abc")
    assert shown == {"text": "abc", "copies": {"json": '{"input": "q", "output": "abc"}'}}


# The page's files


def test_both_languages_say_the_same() -> None:
    english, korean = words()["en"], words()["ko"]
    assert list(english) == list(korean)
    for name, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", korean[name])), name
        assert korean[name].strip() and text.strip()
    html = (PAGE_FILES / "page.html").read_text(encoding="utf-8")
    used = set(re.findall(r'data-(?:word|label)="(.*?)"', html))
    used |= set(re.findall(r"(?:report|end|phrase)\('([\w -]+)'", script()))
    used |= set(re.findall(r"(?:say|worded)\([\w.']+, '([\w -]+)'", script()))
    assert len(used) > 20 and used <= english.keys()
    for name, text in re.findall(r'data-word="(\w+)".*?>([^<]+)<', html):
        assert english[name] == text  # what is there before the program has run


def test_the_page_needs_no_other_host_and_names_are_text() -> None:
    hostile = "</script><img src=x>"
    html = render_page(hostile, [hostile], {"en": [hostile], "ko": []})
    assert "<img" not in html and html.count("</script>") == 2
    data = re.findall(r'id="setup">(.*?)</script>', html)[0]
    assert json.loads(data)["columns"] == [hostile]
    assert not re.search(r"(?:https?:)?//[a-z]|@import|url\(", html + style() + script().replace("// ", ""))


# The command


def unfinished(run_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "unfinished"
    folder.mkdir()
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps({**manifest, "state": "running"}), encoding="utf-8")
    return folder


def test_errors_are_one_line(run_dir: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert main(["demo", *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and err.startswith("error: ")
        return err

    assert "no run directory" in said(tmp_path / "nothing")
    assert "no run directory" in said(run_dir, tmp_path / "nothing")
    assert "no run directory" in said(run_dir, "--base", tmp_path / "nothing")
    assert "has not finished; resume it with: " in said(unfinished(run_dir, tmp_path))
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: nothing can listen there (Address already in use)" in said(run_dir, "--port", port)
    assert "--host no.such.host.invalid: " in said(run_dir, "--host", "no.such.host.invalid")
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == "uvicorn" else object())
    assert "install them with: pip install -e '.[demo]'" in said(run_dir)
    with pytest.raises(SystemExit, match="2"):
        main(["demo", str(run_dir), "--port", "70000"])


def test_sharing_is_listening_for_the_whole_network() -> None:
    for options, host in ((["--share"], "0.0.0.0"), ([], "127.0.0.1")):
        assert build_parser().parse_args(["demo", "run", *options]).host == host


def test_examples_are_held_out_questions_or_else_fixed_ones(run_dir: Path) -> None:
    run = load_run(run_dir)
    assert examples(run) == EXAMPLES
    rows = [{"question": text, "sub_questions": ["a"]} for text in ("one?", "one?", "two?", "three?", "four?")]
    lines = [
        {"row": row, "messages": [{"role": "user", "content": row["question"]}], "completion": "1. a"} for row in rows
    ]
    kept = run_dir / "eval.jsonl"
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    try:
        assert examples(run) == {"en": ["one?", "two?", "three?"], "ko": EXAMPLES["ko"]}
    finally:
        kept.unlink()


# Decoding that is watched


def test_an_answer_is_seen_as_it_is_written_and_can_be_ended(run_dir: Path) -> None:
    run = load_run(run_dir)
    messages = run.task.messages(run.task.typed_record(QUESTION))
    seen: list[str] = []
    answer = run.watch(messages, seen.append)
    assert answer == run.answer([messages])[0]
    assert len(seen) == answer.tokens and seen[-1] == answer.text.rstrip("\ufffd")
    assert len(set(seen)) > 20 and max(map(len, seen)) == len(seen[-1])

    def leave(text: str) -> None:
        seen.append(text)
        if len(seen) == 5:
            raise InterruptedError

    seen.clear()
    with pytest.raises(InterruptedError):
        run.watch(messages, leave)
    assert len(seen) == 5
    assert run.answer([messages])[0] == answer


@pytest.mark.slow
def test_adapters_share_their_base_and_answer_as_alone(
    tiny_model: Callable[[str], Path], run_dir: Path, tmp_path: Path
) -> None:
    base = tiny_model("llama")
    folders = [make_run(tmp_path / name, base, lora_scale=scale) for name, scale in (("a", 0.3), ("b", 1))]
    columns = load_columns([*folders, run_dir], base=True)
    assert [column.name for column in columns] == ["a", "b", "long", f"base: {base}"]
    assert columns[0].run.model is columns[1].run.model is columns[3].run.model is not columns[2].run.model

    def ask(place: int) -> str:
        with columns[place].ready() as run:
            return run.answer([run.task.messages(run.task.typed_record(QUESTION))])[0].text

    alone = [load_run(folder) for folder in (*folders, run_dir)]
    expected = [run.answer([run.task.messages(run.task.typed_record(QUESTION))])[0].text for run in alone]
    with alone[0].untrained() as untrained:
        expected.append(untrained.answer([untrained.task.messages(untrained.task.typed_record(QUESTION))])[0].text)
    assert len(set(expected)) == 4
    for order in ([0, 1, 2, 3], [3, 1, 0, 3, 0, 1]):
        assert [ask(place) for place in order] == [expected[place] for place in order]


@pytest.mark.slow
def test_a_whole_model_has_its_base_beside_it(run_dir: Path) -> None:
    tuned, base = load_columns([run_dir], base=True)
    assert base.run.model is not tuned.run.model and base.is_base and not tuned.is_base


def test_who_came_first_is_answered_first_and_who_leaves_makes_room(run_dir: Path) -> None:
    async def told(answering: Answering, question: str, log: list[str]) -> None:
        async for event in answering.stream(question, [0]):
            if event["kind"] != "partial":
                log.append(f"{question} {event['kind']} {event.get('ahead', '')}".strip())

    async def scenario() -> None:
        answering = Answering(load_columns([run_dir]))
        log: list[str] = []
        tasks = [asyncio.create_task(told(answering, name, log)) for name in "abcd"]
        while "a begin" not in log:
            await asyncio.sleep(0.01)
        tasks[2].cancel()  # waits
        tasks[0].cancel()  # is being decoded
        await asyncio.gather(*tasks, return_exceptions=True)
        assert log[:4] == [f"{name} waiting {ahead}" for ahead, name in enumerate("abcd")]
        assert "a answer" not in log and "c begin" not in log
        assert "d waiting 1" in log  # moved up
        assert log[-4:] == ["b begin", "b answer", "d begin", "d answer"]
        for question, columns in (("  ", [0]), ("x" * 20_001, [0]), ("q", []), ("q", [1]), ("q", [-1])):
            with pytest.raises(UserError):
                await anext(answering.stream(question, columns))
        streams = [answering.stream("q", [0]) for _ in range(MOST_WAITING + 1)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(UserError, match="wait already"):
            await anext(answering.stream("q", [0]))
        answering.close()
        for stream in streams:
            async for _ in stream:
                pass

    asyncio.run(scenario())


# The server


@dataclass
class Server:
    """A demo in a process of its own."""

    port: int
    process: subprocess.Popen[str]
    log: Path
    """Its standard error."""


@pytest.fixture(scope="module")
def server(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo of a run and its base model, which answer in valid decompositions."""
    pytest.importorskip("llguidance", reason="the extra constrained is not installed")
    log = tmp_path_factory.mktemp("demo") / "log"
    command = [sys.executable, "-m", "qdsft", "demo", str(run_dir), "--base", "--constrained", "--port", "0"]
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stderr=stderr, stdout=stderr, text=True)
    try:
        for _ in range(1200):
            found = re.search(r"open http://127\.0\.0\.1:(\d+) \(Ctrl-C ends\)", log.read_text(encoding="utf-8"))
            if found or process.poll() is not None:
                break
            time.sleep(0.1)
        assert found is not None, log.read_text(encoding="utf-8")
        yield Server(int(found[1]), process, log)
    finally:
        process.kill()
        process.wait()


def ask(port: int, body: Any, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    text = body if isinstance(body, str) else json.dumps(body)
    connection.request("POST", "/answer", text, {"Content-Type": "application/json", **headers})
    return connection.getresponse()


@pytest.mark.slow
def test_other_sites_and_bad_requests_are_refused(server: Server) -> None:
    port = server.port
    body = {"question": QUESTION, "columns": [0]}
    assert ask(port, body, **{"Content-Type": "text/plain"}).status == 415  # what a form of another site can send
    assert ask(port, body, Host="other.example").status == 400
    for wrong in ("", "[]", "[" * 100_000, "x" * 300_000, {"question": 1, "columns": [0]}, {"question": "q"}):
        assert ask(port, wrong).status == 400
    assert ask(port, {"question": "q", "columns": [True]}).status == 400
    assert json.loads(ask(port, {"question": " ", "columns": [0]}).read())["message"].startswith("the question is emp")
    events = [json.loads(line) for line in ask(port, {"question": "bad </s>", "columns": [0]}).read().splitlines()]
    assert events[-1]["kind"] == "error" and "</s>" in events[-1]["message"]


@pytest.mark.slow
def test_a_closed_tab_does_not_block_the_queue(server: Server) -> None:
    port = server.port
    everything = {"question": QUESTION, "columns": [0, 1] * 200}  # minutes
    first, second = ask(port, everything), ask(port, everything)
    first.readline()
    assert json.loads(second.readline()) == {"kind": "waiting", "ahead": 1}
    for left in (second, first):
        left.close()
    events = [json.loads(line) for line in ask(port, {"question": QUESTION, "columns": [0]}).read().splitlines()]
    assert events[-1]["kind"] == "answer" and events[-1]["faults"] == []


# The page in a browser


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from shutil import which

    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    if (service := which("chromedriver")) is None:
        pytest.skip("there is no chromedriver to drive Chromium with")
    options = Options()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--lang=en-US", f"--user-data-dir={tmp_path}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(service))
    yield started
    started.quit()


class Visitor:
    """A person at the page."""

    def __init__(self, driver: Any, port: int) -> None:
        self.driver = driver
        driver.get(f"http://127.0.0.1:{port}/")

    def see(self, selector: str) -> list[str]:
        return [element.text for element in self.driver.find_elements("css selector", selector)]

    def run(self, code: str) -> Any:
        return self.driver.execute_script(code)

    def type(self, *keys: str) -> None:
        """Where the focus is, as a keyboard does."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def press(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def wait(self, status: str) -> None:
        for _ in range(600):
            if self.see("#status") == [status]:
                return
            time.sleep(0.1)
        raise AssertionError(f"not {status!r} but {self.see('#status')}")

    def device(self, width: int, scheme: str) -> None:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def brightness(self) -> float:
        colour = self.run("return getComputedStyle(document.body).backgroundColor")
        return sum(map(float, re.findall(r"\d+", colour)[:3])) / 765


RECORD = """
window.seen = []
new MutationObserver(() => window.seen.push([document.querySelector('.steps')?.textContent,
  document.querySelectorAll('svg').length])).observe(document.getElementById('answers'),
  {childList: true, subtree: true, characterData: true})
"""
NAMELESS = """
return [...document.querySelectorAll('button, input, textarea')].filter(e => e.checkVisibility() &&
  !e.textContent.trim() && !e.ariaLabel && !e.labels?.length).map(e => e.outerHTML)
"""
OUT = """
return [...document.querySelectorAll('body *')].filter(e => !e.closest('svg') &&
  e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))
"""


@browser
@pytest.mark.slow
def test_a_person_asks_by_keyboard(server: Server, driver: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    port = server.port
    visitor = Visitor(driver, port)
    visitor.run(RECORD)
    visitor.type("Who is older,", Keys.SHIFT + Keys.ENTER + Keys.NULL, "Ada or Bo?")
    assert visitor.see(".answer") == []
    visitor.type(Keys.ENTER)
    visitor.wait("Done")
    columns = visitor.see(".answer h2")
    assert columns[0] == "long" and columns[1].startswith("base: ")

    seen = visitor.run("return window.seen")
    texts = [text for text, _ in seen if text]
    assert len(set(texts)) > 5 and len(texts[0]) < len(texts[-1])  # as they were generated
    assert seen[0][1] == 0 and seen[-1][1] == 2  # the graphs, at the end
    steps = visitor.see(".answer:first-child .steps li")
    boxes = visitor.run("return [...document.querySelectorAll('.answer:first-child svg .box')].length")
    assert 1 <= len(steps) == boxes

    visitor.press(".answer:first-child [data-format=json]")
    time.sleep(0.5)
    offered = json.loads(visitor.run("return document.querySelector('.copy-text textarea').value"))
    assert offered == {"question": "Who is older,\nAda or Bo?", "sub_questions": steps, "valid": True}
    assert visitor.see(".copy-text [role=status]") == ["Copied"]
    visitor.press(".answer:first-child [data-format=mermaid]")
    assert visitor.run("return document.querySelector('.copy-text textarea').value").startswith("flowchart TD")
    assert visitor.run(NAMELESS) == []
    loaded = visitor.run("return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)")
    assert set(loaded) == {f"http://127.0.0.1:{port}"}
    assert driver.get_log("browser") == []

    visitor.run("document.getElementById('question').focus()")
    reached = []
    for _ in range(4):
        visitor.type(Keys.TAB)
        reached.append(visitor.run("return document.activeElement.id || document.activeElement.type"))
    assert reached[:3] == ["ask", "checkbox", "checkbox"]


@browser
@pytest.mark.slow
def test_a_person_changes_their_mind(server: Server, driver: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    visitor = Visitor(driver, server.port)
    visitor.type(Keys.ENTER)
    visitor.wait("Write a question first.")
    visitor.type("Ada?", Keys.ENTER, Keys.ESCAPE)
    visitor.wait("Stopped")
    assert set(visitor.see(".facts")) == {"Stopped before the end."}
    visitor.type(" Bo?", Keys.ENTER, Keys.ENTER)  # the second takes the place of the first
    visitor.wait("Done")
    assert all(re.fullmatch(r"\d+ tokens in [\d.]+ s", fact) for fact in visitor.see(".facts"))
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **network})
    visitor.type(Keys.ENTER)
    visitor.wait(words()["en"]["lost"])
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **network})
    for box in driver.find_elements("css selector", "#models input"):
        box.click()
    visitor.press("#ask")
    visitor.wait("Choose at least one model.")
    visitor.press("#models input")
    visitor.press("#examples button")
    visitor.wait("Done")
    assert len(visitor.see(".answer")) == 1
    assert visitor.run("return document.getElementById('question').value") == EXAMPLES["en"][0]
    # Enter that ends the composition of a Korean syllable sends nothing.
    composing = "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, cancelable: true, bubbles: true})"
    assert visitor.run(f"return document.getElementById('question').dispatchEvent({composing})") is True


@browser
@pytest.mark.slow
def test_korean_on_a_phone_in_the_dark(server: Server, driver: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    visitor = Visitor(driver, server.port)
    visitor.device(375, "light")
    light = visitor.brightness()
    visitor.device(375, "dark")
    assert light > 0.9 and visitor.brightness() < 0.2
    visitor.type("서울과 부산 중 어디가 더 큰가요?", Keys.ENTER)
    visitor.wait("Done")
    assert visitor.see("h1") == ["Question decomposition"]
    visitor.press("[data-language=ko]")
    assert visitor.see("h1") == ["질문 분해"] and visitor.see("#status") == ["완료"]
    assert visitor.run("return document.documentElement.lang") == "ko"
    assert re.fullmatch(r"\d+토큰, [\d.]+초", visitor.see(".facts")[0])
    visitor.press("[data-format=json]")
    time.sleep(0.5)
    assert visitor.see(".copy-text [role=status]") == ["복사됨"]
    assert visitor.run(OUT) == []
    assert visitor.run("return document.documentElement.scrollWidth") == 375
    driver.refresh()
    assert visitor.see("h1") == ["질문 분해"]  # kept
    assert "더" in visitor.see("#examples button")[0]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_it_quietly_while_it_answers(server: Server) -> None:
    port = server.port
    answer = ask(port, {"question": QUESTION, "columns": [0, 1] * 200})
    answer.readline()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=30) == 0
    said = server.log.read_text(encoding="utf-8")
    assert said.endswith("(Ctrl-C ends)\n\nended\n") and "Traceback" not in said
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
