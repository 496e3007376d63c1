"""`qdsft demo` in a browser and from a client: streaming, stop, languages, hostile text, a closed tab, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from helpers.browser import CHROMIUM, browser
from helpers.paths import ROOT
from helpers.tiny_run import make_run

pytest.importorskip("gradio", reason="the extra demo is not installed")

from helpers.demo_page import FREE_TEXT, served, writes

QUESTION = "Who is older, Ada or Bo?"
GOOD = "1. How old is Ada?\n2. How old is Bo?\n3. Is #1 more than #2?"
# Would run, become bold or disappear as HTML, Markdown, a Handlebars template or a JavaScript template.
HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script> **who** {{value}} ${1}"


@contextmanager
def opened(tmp_path: Path, language: str = "en-US") -> Iterator[Any]:
    """A Chromium that reaches this machine only."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    if (service := which("chromedriver")) is None:
        pytest.skip("there is no chromedriver to drive Chromium with")
    options = Options()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    options.add_argument(f"--user-data-dir={tmp_path / language}")
    options.add_argument(f"--accept-lang={language}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--lang={language}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(service))
    try:
        yield driver
    finally:
        driver.quit()


class Visitor:
    """A person at the page."""

    def __init__(self, driver: Any, port: int) -> None:
        self.driver = driver
        driver.get(f"http://127.0.0.1:{port}/")
        self.wait(lambda: self.see("#question textarea"))

    def see(self, selector: str) -> list[str]:
        code = "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText ?? '')"
        texts: list[str] = self.driver.execute_script(code, selector)
        return texts

    def run(self, code: str) -> Any:
        return self.driver.execute_script(code)

    def write(self, *keys: str) -> None:
        self.driver.find_element("css selector", "#question textarea").send_keys(*keys)

    def press(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def wait(self, until: Callable[[], Any]) -> None:
        for _ in range(300):
            if until():
                return
            time.sleep(0.1)
        raise AssertionError(self.see("body"))

    def brightness(self, scheme: str) -> float:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.refresh()
        self.wait(lambda: self.see("#question textarea"))
        color = self.run("return getComputedStyle(document.body).backgroundColor")
        return sum(map(float, re.findall(r"\d+", color)[:3])) / 765


RECORD = """
window.seen = [[], []]
new MutationObserver(() => document.querySelectorAll('.answer .answer').forEach((answer, column) =>
  window.seen[column].push([answer.querySelector('.steps')?.textContent ?? '',
    answer.querySelectorAll('figure svg').length]))
).observe(document.body, {childList: true, subtree: true, characterData: true})
"""


@browser
@pytest.mark.slow
def test_a_person_asks_two_models(tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    with (
        served(writes("tuned", GOOD, seconds=1), writes("base: x", GOOD, seconds=1)) as (_, port),
        opened(tmp_path) as driver,
    ):
        visitor = Visitor(driver, port)
        visitor.run(RECORD)
        visitor.write("Who is older,", Keys.SHIFT + Keys.ENTER + Keys.NULL, "Ada or Bo?")
        assert visitor.see(".answer h3") == []
        visitor.write(Keys.ENTER)
        visitor.wait(lambda: len(visitor.see(".answer figure svg")) == 2)
        assert visitor.see(".answer h3") == ["tuned", "base: x"]
        for column in visitor.run("return window.seen"):
            texts = [text for text, _ in column if text]
            assert len(set(texts)) > 5 and len(texts[0]) < len(texts[-1])  # as they were written
            assert column[0][1] == 0 and column[-1][1] == 1  # the graph is drawn at the end
        assert visitor.see(".answer .steps li")[:3] == ["How old is Ada?", "How old is Bo?", "Is #1 more than #2?"]
        copies = visitor.run("return [...document.querySelectorAll('textarea')].map(one => one.value)")
        assert any(text.startswith('{"question": "Who is older,\\nAda or Bo?", "sub_questions"') for text in copies)
        assert any(text.startswith("flowchart TD") for text in copies)
        assert len(driver.find_elements("css selector", "button[title='Copy'], button[aria-label='Copy']")) == 6
        loaded = visitor.run("return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)")
        assert set(loaded) == {f"http://127.0.0.1:{port}"}
        assert [entry for entry in driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}] == []
        assert visitor.brightness("light") > 0.9 and visitor.brightness("dark") < 0.2


@browser
@pytest.mark.slow
def test_stop_and_choose_another_model(tmp_path: Path) -> None:
    with served(writes("slow", GOOD, seconds=20), writes("fast", GOOD)) as (_, port), opened(tmp_path) as driver:
        visitor = Visitor(driver, port)
        visitor.press("#ask")
        visitor.wait(lambda: "Write a question" in visitor.see("body")[0])
        visitor.press("button.gallery-item")
        visitor.wait(lambda: visitor.run("return document.querySelector('#question textarea').value") == QUESTION)
        visitor.press("#ask")
        visitor.wait(lambda: visitor.see(".answer .steps li"))
        visitor.press("#stop")
        visitor.wait(lambda: visitor.see(".answer .warn") == ["Stopped before the end of the answer."])
        written = visitor.see(".answer .steps")
        time.sleep(1)
        assert "Error" not in visitor.see("body")[0]
        assert visitor.see(".answer .steps") == written and visitor.see(".answer figure svg") == []
        visitor.press("#ask")
        visitor.wait(lambda: visitor.see(".answer .warn") == [] and visitor.see(".answer .steps li"))
        visitor.press("input[type=checkbox]")
        visitor.press("#ask")  # takes the place of the question that is being answered
        visitor.wait(lambda: len(visitor.see(".answer figure svg")) == 1)
        assert visitor.see(".answer h3") == ["fast"]


@browser
@pytest.mark.slow
def test_hostile_text_is_text(tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    model = writes(HOSTILE, f"1. {HOSTILE} #2\n2. {HOSTILE}", stopped=False)
    other = writes("text", HOSTILE, task=FREE_TEXT)
    with served(model, other, examples=(HOSTILE,)) as (_, port), opened(tmp_path) as driver:
        visitor = Visitor(driver, port)
        visitor.write(HOSTILE, Keys.ENTER)
        visitor.wait(lambda: visitor.see(".answer pre") == [HOSTILE])
        time.sleep(1)
        assert visitor.see(".answer .steps li") == [f"{HOSTILE} #2", HOSTILE]
        assert visitor.see(".answer h3") == [HOSTILE, "text"]
        assert driver.title == "qdsft demo"
        assert visitor.run("return document.querySelectorAll('.gradio-container img[src=x]').length") == 0
        assert visitor.see("button.gallery-item")[0].startswith(HOSTILE[:40])  # Gradio shortens examples


@browser
@pytest.mark.slow
def test_korean_on_a_phone(tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    with served(writes("a", "1. Is #2?\n2. Who?"), writes("b", GOOD)) as (_, port), opened(tmp_path, "ko") as driver:
        size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        visitor = Visitor(driver, port)
        visitor.wait(lambda: visitor.see("h1") == ["질문 분해"])
        assert visitor.see("#ask") == ["분해하기"] and visitor.see("#stop") == ["중지"]
        visitor.write("서울과 부산 중 어디가 더 큰가요?")
        composing = "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true})"
        visitor.run(f"document.querySelector('#question textarea').dispatchEvent({composing})")
        time.sleep(1)
        composed = visitor.see(".answer h3")
        visitor.write(Keys.ENTER)
        visitor.wait(lambda: len(visitor.see(".answer figure svg")) == 2)
        text = visitor.see("body")[0]
        assert "각 단계가 사용하는 답" in text and "토큰, " in text and "뒤의 단계를 참조함" in text
        assert visitor.run("return document.documentElement.scrollWidth") == 375
        assert composed == []  # this Enter ends the composition of a syllable


@pytest.fixture
def proxy() -> Iterator[socket.socket]:
    """Where a request to any other machine would go."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_the_command_serves_until_ctrl_c(
    tiny_model: Callable[[str], Path], tmp_path: Path, proxy: socket.socket
) -> None:
    """The real models; a client that leaves makes room; no request to another machine; Ctrl-C while it answers."""
    client = pytest.importorskip("gradio_client")
    pytest.importorskip("llguidance", reason="the extra constrained is not installed")
    run_dir = make_run(tmp_path / "long", tiny_model("llama"), "tiny/full", "evaluation.max_new_tokens=2000")
    command = [sys.executable, "-m", "qdsft", "demo", str(run_dir), "--base", "--constrained", "--port", "0"]
    address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    environment = {**os.environ, "HTTP_PROXY": address, "HTTPS_PROXY": address, "no_proxy": "", "NO_PROXY": ""}
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=ROOT, stderr=output, stdout=output, text=True, env=environment)
    try:
        for _ in range(1200):
            found = re.search(r"open http://127\.0\.0\.1:(\d+) \(Ctrl-C ends\)", log.read_text(encoding="utf-8"))
            if found or process.poll() is not None:
                break
            time.sleep(0.1)
        assert found is not None, log.read_text(encoding="utf-8")
        port = int(found[1])
        first = client.Client(f"http://127.0.0.1:{port}", verbose=False)
        left = first.submit(QUESTION, [0, 1], "en", api_name="/answer")
        while not left.outputs():
            time.sleep(0.1)
        left.cancel()
        second = client.Client(f"http://127.0.0.1:{port}", verbose=False)
        answered = second.submit(QUESTION, [0, 1], "en", api_name="/answer")
        while sum("<li>" in str(output) for output in answered.outputs()) < 3:
            assert not answered.done(), answered.outputs()[-1]
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        said = log.read_text(encoding="utf-8")
        assert said.endswith("(Ctrl-C ends)\n\nended\n") and "Traceback" not in said
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        with pytest.raises(BlockingIOError):
            proxy.accept()
    finally:
        process.kill()
        process.wait()
