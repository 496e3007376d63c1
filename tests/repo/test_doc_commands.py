"""Every command of the documentation is run as it is typed, in a folder laid out like a clone, on tiny models that a
Hub on loopback gives in place of the real ones. What is not run says why, in a comment above it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from helpers.architectures import ARCHITECTURES
from helpers.command_server import CommandServer
from helpers.loopback_hub import LoopbackHub, Repo, environment, serving
from helpers.pages import PAGES, Command, fences
from helpers.paths import ROOT
from helpers.tiny_run import make_run
from safetensors.torch import load, save

from qdsft.data.split import SplitTally, stream_split
from qdsft.files import write_new_lines
from qdsft.inference.evaluate import evaluate
from qdsft.recipe import load_recipe
from qdsft.runs.eval_rows import write_eval_rows
from qdsft.runs.facts import DataFacts
from qdsft.runs.manifest import read_manifest, write_manifest

pytestmark = pytest.mark.slow

REASONS = {
    "it downloads packages",
    "it runs all tests",
    "it needs several GPUs",
    "it needs a GPU",
    "it needs a rented pod",
    "the tests of docs/PLAN.md run such commands",
    "it needs Docker",
    "it needs an account of the Hub",
    "it needs the repository's address",
    "it needs Gemma's weights",
    "it needs Gemma's weights, and takes 23 minutes on one thread",
    "it needs a package; tests/integration/test_handover_*.py do so",
    "it needs a checkout of llama.cpp and the extra gguf",
    "it serves until it is stopped; tests/integration/test_serve.py does so",
    "it serves until it is stopped; tests/integration/test_demo.py does so",
    "it asks a server; tests/integration/test_serve.py does so",
    "it takes minutes; tests/integration/test_improve.py does so",
    "it asks a server; tests/unit/cli/test_data_distill.py does so",
    "it starts two processes; tests/integration/test_evaluate.py does so",
    "it takes minutes; tests/unit/scripts/test_sweep.py plans these runs",
    "it takes minutes, on a machine that does nothing else",
}
"""The reasons for not running a command."""
WORDS = {"RECIPE": "recipes/mistral/qlora_8gb.yaml", "IN": "train.json", "OUT": "out.jsonl", "export HF_TOKEN=...": ":"}
"""Words that a page leaves to the reader."""
STATUS = {"qdsft doctor": (0, 1), "python examples/agent_loop.py --run": (0, 1)}
"""Beginning of a command -> what it may return, if not 0: here is no card, and a model that has learned nothing."""
PRINTED = {
    "qdsft check": "all valid",
    "qdsft plan": "fits",
    "qdsft recipe --new": r"stop token: <\|im_end\|>",
    "qdsft recipe": "command line",
    "qdsft evaluate": "exact match",
    "qdsft compare": "significant|difference",
    "qdsft data check": "rows",
    "qdsft runs": "finished",
    "accelerate launch scripts/run_sft.py": "finished: outputs/",
    "python examples/agent_loop.py": r"\?\n  1\. |cannot be executed",
    "make quickstart": "report: outputs/tiny-full/report.html",
}
"""Beginning of a command -> what its page says that it is for, as a pattern of what it prints."""
ROWS = 12
TESTED = [
    page
    for page in PAGES
    if not page.name.endswith(".ko.md")  # tests/repo/test_korean_pages.py compares the commands with the English page
    and any(one.not_run is None for fence in fences(page) for one in fence.commands())
]


@dataclass
class Clone:
    """A checkout in which commands can be typed."""

    folder: Path
    tiny_model: Callable[[str], Path]
    environment: dict[str, str] = field(default_factory=dict)

    def run_of(self, name: str, model: Path, recipe: str, scale: float = 0.0, tokens: int = 16) -> None:
        """A finished run outputs/`name`; with a scale an adapter of such random weights."""
        values = load_recipe(self.folder / "recipes" / f"{recipe}.yaml").data
        train = values.train_paths[0] if recipe.startswith("tasks/") else "data/examples/sample_train.jsonl"
        overrides = [f"data.train={self.folder / train}", f"data.eval_fraction={max(values.eval_fraction, 0.1)}"]
        overrides.append(f"evaluation.max_new_tokens={tokens}")
        run_dir = make_run(self.folder / "outputs" / name, model, recipe, *overrides, lora_scale=scale)
        tally, held_out = SplitTally(), []
        for side, example in stream_split(load_recipe(ROOT / "recipes" / f"{recipe}.yaml", overrides)):
            tally.add(side, example)
            held_out += [example] if side == "eval" else []
        write_eval_rows(run_dir, held_out)
        manifest = read_manifest(run_dir)
        manifest.data = DataFacts.model_validate(tally.summary())
        write_manifest(run_dir, manifest)

    def copy(self, source: str, *targets: str) -> None:
        for target in targets:
            shutil.copy(self.folder / "data" / "examples" / source, self.folder / target)

    def write(self, name: str, *lines: str) -> None:
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def type(self, commands: list[Command]) -> list[tuple[int, str]]:
        """(status, output) of each command in one shell, up to the first that fails."""
        log = self.folder.parent / "log"
        log.mkdir()
        script = []
        for number, command in enumerate(commands):
            words = r"\b|\b".join(map(re.escape, WORDS))
            text = re.sub(rf"(?<![\w/.])(?:{words})(?![\w/])", lambda match: WORDS[match[0]], command.text)
            script += [f"{{\n{text}\n}} >{log}/{number} 2>&1 </dev/null", f"echo $? $SECONDS >{log}/{number}.status"]
        (log / "script").write_text("\n".join(script) + "\n", encoding="utf-8")
        subprocess.run(["bash", str(log / "script")], cwd=self.folder, env=self.environment, timeout=280)
        done = []
        for number in range(len(commands)):
            printed = (log / str(number)).read_text(encoding="utf-8", errors="replace")
            status, seconds = (log / f"{number}.status").read_text().split()
            print(f"{seconds} s: {commands[number].text}")
            done.append((int(status), printed))
        return done


@pytest.fixture(scope="module")
def hub(tiny_model: Callable[[str], Path]) -> Iterator[LoopbackHub]:
    """A Hub that has a tiny model under the name of each recipe's."""
    with serving() as hub:
        hub.account["orgs"] = [{"name": name, "roleInOrg": "admin"} for name in ("your-name", "user")]
        for path in ROOT.glob("recipes/*/*.yaml"):
            name = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["name_or_path"]
            if not name.startswith("models/"):
                folder = tiny_model(ARCHITECTURES[path.parent.name])
                hub.repos[name] = Repo(False, {"main": steady(folder)})
        yield hub


def steady(model: Path) -> dict[str, bytes]:
    """Return the files of a tiny model with stable answers if its embeddings are not tied: each token is followed by
    its neighbour in the vocabulary.
    """
    files = {file.name: file.read_bytes() for file in model.iterdir()}
    weights = load(files["model.safetensors"])
    if {"lm_head.weight", "model.embed_tokens.weight"} <= weights.keys():
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].roll(1, 0)
        for name, value in weights.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                value *= 0.05
    return {**files, "model.safetensors": save(weights, {"format": "pt"})}


@pytest.fixture(scope="module")
def server(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    server = CommandServer(environment(hub, tmp_path_factory.mktemp("hub")))
    (server.folder / "activate").write_text(f"PATH={server.folder}:$PATH\n", encoding="utf-8")
    yield server
    server.close()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied for each page: recipes that train and answer briefly, few rows, and scripts as they are."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("recipes", "data/examples", "scripts", "accelerate_configs", "examples", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / "qdsft").symlink_to(ROOT / "qdsft")
    for recipe in (folder / "recipes").glob("*/*.yaml"):
        text = re.sub(r"max_new_tokens: \d+", "max_new_tokens: 16", recipe.read_text(encoding="utf-8"))
        text = re.sub(r"num_train_epochs: \d+", "max_steps: 2", text)
        text = re.sub(r"max_length: \d+", "max_length: 512", text)
        recipe.write_text(text, encoding="utf-8")
    sides: dict[str, list[str]] = {"train": [], "eval": []}
    rows = folder / "data/examples/sample_train.jsonl"
    for (side, _), line in zip(
        stream_split(load_recipe(ROOT / "recipes/mistral/qlora_8gb.yaml", [f"data.train={rows}"])),
        rows.read_text(encoding="utf-8").splitlines(),
        strict=True,
    ):
        sides[side].append(line)
    write_new_lines(folder / "few.jsonl", [*sides["eval"][:2], *sides["train"][:ROWS]])
    (folder / "few.jsonl").replace(rows)
    return folder


@pytest.fixture
def clone(
    checkout: Path, server: CommandServer, hub: LoopbackHub, tiny_model: Callable[[str], Path], tmp_path: Path
) -> Clone:
    folder = tmp_path / "qdsft"
    shutil.copytree(checkout, folder, symlinks=True)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(server.folder)
    (folder / ".venv" / ".ready").touch()
    path = f"{server.folder}:{os.environ['PATH']}"
    return Clone(
        folder, tiny_model, {**os.environ, **environment(hub, tmp_path), "PATH": path, "PYTHONPATH": str(ROOT)}
    )


def corpus(clone: Clone) -> None:
    clone.copy("sample_train.jsonl", "data/synthetic.jsonl")


def tiny_full(clone: Clone) -> None:
    clone.run_of("tiny-full", clone.tiny_model("llama"), "tiny/full")


def adapters(clone: Clone) -> None:
    model = clone.folder / "models" / "mistral"
    model.mkdir(parents=True)
    for name, content in steady(clone.tiny_model("mistral")).items():
        (model / name).write_bytes(content)
    for name, scale in (("mistral-qlora_8gb", 0.01), ("another-run", 0.02)):
        clone.run_of(name, model, "mistral/qlora_8gb", scale)


def own_rows(clone: Clone) -> None:
    clone.copy("sample_train.jsonl", "data/mine.jsonl", "my.jsonl")
    clone.copy("sample_eval.jsonl", "my_eval.jsonl")


def questions(clone: Clone) -> None:
    asked = ["Who wrote The Silent Tide?", "백두산보다 높은 산이 있는 나라는 어디인가요?"]
    clone.write("questions.txt", *asked)
    clone.write("questions.jsonl", *(json.dumps({"question": one}) for one in asked))
    turns = [{"speaker": "customer", "text": "주차할 수 있나요?"}]
    clone.write("dialogues.jsonl", json.dumps({"turns": turns}))


def tasks(clone: Clone) -> None:
    for task in ("named_entities", "sentiment", "translation", "dialogue"):
        clone.run_of(f"tasks-{task}", clone.tiny_model("qwen3"), f"tasks/{task}", 0.1)


def other_projects(clone: Clone) -> None:
    header = "question_id,question_text,decomposition,operators,split"
    rows = [f'DROP_{n},where is town {n}?,return town {n} ;return the place of #1,"[]",train' for n in range(30)]
    for name in ("QDMR.csv", "QDMR-high-level.csv", "labels.csv"):
        clone.write(name, header, *rows)
    clone.write("predictions.csv", "decomposition", *(f"return town {n} ;return where #1 is" for n in range(30)))
    yes_no = [
        {
            "question": f"Is town {n} large?",
            "decomposition": ["How large is it?", "Is #1 over 5?"],
            "facts": [f"Town {n} has {n} thousand people.", "Large towns have more than five thousand people."],
        }
        for n in range(40)
    ]
    clone.write("train.json", json.dumps(yes_no))
    clone.copy("sample_eval.jsonl", "gold.jsonl", "predictions.jsonl")


def gemma(clone: Clone) -> None:
    shutil.copytree(clone.tiny_model("gemma3_text"), clone.folder / "models" / "gemma-3-270m")


def evaluated(clone: Clone) -> None:
    for name in ("tiny-full", "mistral-qlora_8gb"):
        evaluate(clone.folder / "outputs" / name)


def merged(clone: Clone) -> None:
    """What the transcript of docs/MERGING.md pushes: answers so long that those of random weights differ."""
    model = clone.folder / "models" / "tiny-mistral"
    shutil.copytree(clone.tiny_model("mistral"), model)
    clone.run_of("try", model, "mistral/qlora_8gb", 0.1, tokens=200)
    subprocess.run(
        ["qdsft", "merge", "outputs/try", "--output", "outputs/merged"],
        cwd=clone.folder,
        env=clone.environment,
        check=True,
        capture_output=True,
    )


PREPARED: dict[str, tuple[Callable[[Clone], None], ...]] = {
    "README.md": (corpus,),
    "data/DATA_FORMAT.md": (own_rows, other_projects),
    "docs/DECOMPOSE.md": (tiny_full, adapters, questions),
    "docs/DEMO.md": (tiny_full,),
    "docs/FORMATS.md": (other_projects,),
    "docs/INTEGRATIONS.md": (tiny_full,),
    "docs/MERGING.md": (adapters, merged),
    "docs/METRICS.md": (tiny_full, adapters, other_projects, evaluated),
    "docs/OTHER_TASKS.md": (tasks, questions),
    "docs/QUICKSTART.md": (corpus, own_rows, questions),
    "docs/SERVING.md": (tiny_full,),
    "recipes/gemma3_270m/README.md": (gemma, other_projects),
}
"""Page -> what is there already when its reader types the first command."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [page.relative_to(ROOT).as_posix() for page in TESTED])
def test_the_commands_of_a_page(name: str, clone: Clone) -> None:
    commands = [one for fence in fences(ROOT / name) for one in fence.commands() if one.not_run is None]
    for prepare in PREPARED.get(name, ()):
        prepare(clone)
    for command, (status, printed) in zip(commands, clone.type(commands), strict=True):
        problem = what_is_wrong(command, status, printed)
        assert not problem, f"{name}:{command.line}: {command.text}\n{problem}\n{printed[-3000:]}"


def what_is_wrong(command: Command, status: int, printed: str) -> str | None:
    """Why a command did not do what its page says, or None."""
    if command.shown is not None:
        seen, shown = comparable(printed), comparable(command.shown)
        return None if seen == shown else f"printed\n{seen}\nand not\n{shown}"
    allowed = next((found for beginning, found in STATUS.items() if command.text.startswith(beginning)), (0,))
    if status not in allowed or "Traceback" in printed:
        return f"status {status}"
    pattern = next((found for beginning, found in PRINTED.items() if command.text.startswith(beginning)), "")
    return None if re.search(pattern, printed) else f"nothing printed is like {pattern!r}"


def comparable(printed: str) -> str:
    """Its lines in the order of the alphabet, since two streams make them; without progress, ports and blank lines."""
    lines = [line for line in re.sub(r".*\r", "", printed).splitlines() if line.strip()]
    lines = [re.sub(r"127\.0\.0\.1:\d+", "HUB", line) for line in lines if not re.search(r"\d+%\||it/s\]", line)]
    return "\n".join(sorted(lines))


PAGE = """
<!-- not run (pip): it downloads packages -->
```bash
pip install -e '.[demo]'
qdsft check recipes/mistral/qlora_8gb.yaml \\
  training.learning_rte=1e-4  # a slip
A=1 echo "a b" | cat
```

   ```text
   $ echo one
   two
   ```
"""


def test_a_page_is_read_as_a_shell_would(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    found = [one for fence in fences(tmp_path / "page.md") for one in fence.commands()]
    assert [one.line for one in found] == [4, 5, 7, 11]
    assert [one.not_run for one in found] == ["it downloads packages", None, None, None]
    assert found[1].text.endswith("\\\n  training.learning_rte=1e-4  # a slip")
    assert found[3].text == "echo one" and found[3].shown == "two\n"


def test_a_wrong_command_is_seen(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    page = [one for fence in fences(tmp_path / "page.md") for one in fence.commands() if not one.not_run]
    done = zip(page, clone.type(page), strict=True)
    slip, pipe, transcript = [what_is_wrong(command, status, printed) for command, (status, printed) in done]
    assert slip == "status 1" and pipe is None and transcript == "printed\none\nand not\ntwo"
    nothing = Command(1, "qdsft plan recipes/mistral/qlora_8gb.yaml")
    assert what_is_wrong(nothing, 0, "") == "nothing printed is like 'fits'"


def test_commands_that_are_not_run_have_a_reason() -> None:
    """The reasons are few, each is used, and each marker names commands that stand below it."""
    given = set()
    for page in PAGES:
        for fence in fences(page):
            if fence.reason is not None:
                given.add(fence.reason)
                texts = [one.text for one in fence.commands()]
                lost = [one for one in fence.beginnings if not any(text.startswith(one) for text in texts)]
                assert texts and not lost, f"{page}:{fence.line}: {lost}"
        markers = re.findall(r"<!-- not run", page.read_text(encoding="utf-8"))
        assert len(markers) == sum(fence.reason is not None for fence in fences(page)), page
    assert given == REASONS
    for path in re.findall(r"tests/\w+\.py", "".join(given)):
        assert (ROOT / path).is_file()
