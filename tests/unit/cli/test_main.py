"""The command line as people meet it: exit codes, one-line errors, and light commands that stay light."""

from __future__ import annotations

import argparse
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.paths import ROOT
from tqdm import tqdm

import qdsft
from qdsft.cli.main import build_parser, main
from qdsft.errors import UserError

RECIPE = "model:\n  name_or_path: user/model\ndata:\n  train: t.jsonl\n  eval_fraction: 0\n"
ROWS = [{"question": f"질문 {n}?", "sub_questions": ["a?", "#1?"]} for n in range(5)]
NO_RUN = "no run directory (run.json is missing); give the folder that qdsft train wrote, such as outputs/tiny-full"
# As a shell starts it: nothing in the environment that hides how output is buffered or encoded.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
ENVIRONMENT |= {"PYTHONPATH": str(ROOT), "LC_ALL": "C"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    Path("t.jsonl").write_text("\n".join(lines), encoding="utf-8")


Capture = pytest.CaptureFixture[str]


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `qdsft` is this interpreter's."""
    line = f'qdsft() {{ "{sys.executable}" -m qdsft "$@"; }}\n{command}'
    return subprocess.run(
        ["bash", "-c", line], env=ENVIRONMENT, capture_output=True, encoding="utf-8", errors="replace", timeout=120
    )


def refused(capsys: Capture, *arguments: str) -> str:
    """The one line on standard error of a command that ends with 1."""
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.endswith("\n")
    assert error.startswith("error: ")
    return error.removeprefix("error: ").rstrip("\n")


def wrong_usage(capsys: Capture, *arguments: str) -> str:
    """The last line on standard error of a command that ends with 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: qdsft")
    return error.splitlines()[-1]


def test_a_command_is_found_by_its_name() -> None:
    commands = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    handlers = {name: parser.get_default("handler") for name, parser in commands.choices.items()}
    modules = {name: handler.__module__ for name, handler in handlers.items() if handler is not None}
    assert (
        modules == {name: f"qdsft.cli.{name.replace('-', '_')}" for name in handlers if name != "data"}
        and len(modules) >= 16
    )


# What goes well


def test_recipe_shows_every_value_with_its_origin(capsys: Capture) -> None:
    assert main(["recipe", "r.yaml", "training.learning_rate=1e-4", "prompt.user=질문: {{ question }}"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert rows["model.name_or_path"].split() == ["model.name_or_path", '"user/model"', "r.yaml:2"]
    assert rows["training.learning_rate"].split() == ["training.learning_rate", "0.0001", "command", "line"]
    assert rows["data.overlength"].split() == ["data.overlength", '"error"', "default"]
    assert '"질문: {{ question }}"' in rows["prompt.user"]
    assert len(out.splitlines()) == len(rows)


def test_check_says_what_it_checked(capsys: Capture) -> None:
    Path("e.jsonl").write_text(json.dumps({**ROWS[3], "question": " 질문  3?"}), encoding="utf-8")
    assert main(["check", "r.yaml", "data.eval=e.jsonl"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"recipe: r.yaml is valid; it trains user/model and writes to outputs/{Path.cwd().name}-r",
        "chat template: the one of the tokenizer",
        "data check: 1 warning (1 question is held out); list them with: qdsft data check t.jsonl --eval e.jsonl "
        "--recipe r.yaml",
        "data: 4 rows to train on, 1 held out, all valid",
        "data: 1 training rows are left out because their question is in data.eval",
    ]
    assert main(["check", "r.yaml", "data.train=user/name"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "data: on the Hub, not checked"


@pytest.mark.parametrize("recipe", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("recipes/*/*.yaml")))
def test_every_shipped_recipe_can_be_shown(recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["recipe", recipe]) == 0
    assert f"{recipe}:" in capsys.readouterr().out


def test_the_version_and_help(capsys: Capture) -> None:
    for arguments, expected in ((["--version"], f"qdsft {qdsft.__version__}\n"), (["--help"], "usage: qdsft [-h]")):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(expected)


@pytest.mark.parametrize(
    "command", ["recipe", "check", "train", "evaluate", "compare", "decompose", "data", "data convert"]
)
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: qdsft {command} ")


# What the user can mend: status 1, one line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("check nope.yaml", "nope.yaml: No such file or directory; give the path of a readable file"),
        ("train nope.yaml", "nope.yaml: No such file or directory; give the path of a readable file"),
        ("recipe .", ".: Is a directory; give the path of a readable file"),
        ("recipe t.jsonl", "t.jsonl:2: not valid YAML: "),
        (
            "check r.yaml training.learning_rte=1",
            "command line: training.learning_rte is not a key of trl.SFTConfig; did",
        ),
        ("check r.yaml training.packing=yes", "command line: training.packing must be true or false, not the text"),
        ("check r.yaml data.train=nope.jsonl", "command line: data.train: there is no file nope.jsonl (looked at /"),
        (
            "check r.yaml model.name_or_path=./nope",
            "command line: model.name_or_path: ./nope is not a folder with a model (config.json is missing); co",
        ),
        (
            "check r.yaml model.chat_template=nope.jinja",
            "command line: model.chat_template: no nope.jinja beside the recipe (nope.",
        ),
        ("check r.yaml prompt.user={{", "command line: prompt.user: not valid Jinja: "),
        ("check r.yaml data.train=.", ".: Is a directory (looked at /"),
        (
            "check r.yaml training.global_batch_size=3 training.per_device_train_batch_size=2",
            "command line: training.global_batch_size 3 is not a multiple of per_device_train_batch_size x devices = 2",
        ),
        ("train r.yaml --resume --overwrite", "--resume and --overwrite contradict each other; give one of them"),
        (
            "train r.yaml --resume seed=x",
            "command line: seed must be a whole number of at least 0 and up to 4294967295, not the text",
        ),
        ("evaluate nope", f"nope: {NO_RUN}"),
        ("evaluate .", f".: {NO_RUN}"),
        ("evaluate r.yaml --baseline", f"r.yaml: {NO_RUN}"),
        ("decompose nope question", f"nope: {NO_RUN}"),
        ("decompose . --json question", f".: {NO_RUN}"),
        ("data convert --from strategyqa --to jsonl nope.json out", "nope.json: No such file or directory (looked"),
        ("data convert --from strategyqa --to jsonl t.jsonl r.yaml", "r.yaml exists; delete it or choose another name"),
        (
            "data convert --from strategyqa --to jsonl t.jsonl new/out",
            "t.jsonl: none of its 5 rows can be used; the first: t.jsonl:1: the field 'decomposition' is missing; this",
        ),
        (
            "data convert --from jsonl --to dag --tool-name x t.jsonl out",
            "--tool-name is only for --to llamaindex; lea",
        ),
        ("data convert --from jsonl --to mermaid t.jsonl out.mmd", "out.mmd: a .mmd file holds one chart, this is Mar"),
        ("data convert --from jsonl --to jsonl r.yaml new/out", "r.yaml:1: not JSON at column 1: Expecting value; wr"),
    ],
)
def test_bad_input_is_one_line(arguments: str, message: str, capsys: Capture) -> None:
    assert refused(capsys, *arguments.split()).startswith(message)
    assert sorted(path.name for path in Path().iterdir()) == ["r.yaml", "t.jsonl"]  # nothing was written


def test_a_bad_row_is_named_with_its_line(capsys: Capture) -> None:
    with Path("t.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"question": "q", "sub_questions": ["#4"]}\n')
    message = "t.jsonl:6: sub_questions: step 1 refers to #4, but there are 1 steps; correct or remove the row"
    assert refused(capsys, "check", "r.yaml") == message


def test_a_damaged_run_is_one_line(capsys: Capture) -> None:
    Path("run").mkdir()
    Path("run/run.json").write_text("{", encoding="utf-8")
    for command in ("evaluate", "decompose"):
        message = "run/run.json: damaged, or written by another version of qdsft; train again"
        assert refused(capsys, command, "run") == message


# What is wrong usage: status 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "qdsft: error: the following arguments are required: COMMAND"),
        ("trane r.yaml", "qdsft: error: argument COMMAND: invalid choice: 'trane'"),
        ("check", "qdsft check: error: the following arguments are required: RECIPE"),
        ("check r.yaml --overwrite", "qdsft: error: unrecognized arguments: --overwrite"),
        ("train r.yaml --resume extra", "qdsft: error: unrecognized arguments: extra"),
        ("evaluate run a=b", "qdsft: error: unrecognized arguments: a=b"),
        ("evaluate run --samples 0", "qdsft evaluate: error: argument --samples: '0' is not a whole number above 0"),
        ("evaluate run --samples x", "qdsft evaluate: error: argument --samples: 'x' is not a whole number above 0"),
        ("decompose run one two", "qdsft: error: unrecognized arguments: two"),
        ("data", "qdsft data: error: the following arguments are required: COMMAND"),
        ("data convert --from x --to jsonl a b", "qdsft data convert: error: argument --from: invalid choice: 'x'"),
        ("data convert --from strategyqa --to jsonl a", "qdsft data convert: error: the following arguments are req"),
    ],
)
def test_wrong_usage(arguments: str, message: str, capsys: Capture) -> None:
    assert wrong_usage(capsys, *arguments.split()).startswith(message)


def test_overrides_may_follow_options(capsys: Capture) -> None:
    # Both reach the recipe: the second is refused there, and with it gone the first is.
    values = ["training.learning_rate=0", "seed=x"]
    message = 'command line: seed must be a whole number of at least 0 and up to 4294967295, not the text "x"'
    assert refused(capsys, "train", "r.yaml", values[0], "--resume", values[1]) == message
    assert refused(capsys, "train", "--resume", "r.yaml", *values) == message
    message = "command line: training.learning_rate must be above 0, not 0"
    assert refused(capsys, "train", "r.yaml", "--overwrite", values[0]) == message


# Converting


def test_data_convert(capsys: Capture) -> None:
    found = [
        {"qid": "1", "question": "Did  Ada outlive Bob?", "decomposition": ["When did Ada die?", "Is #1 late?"]},
        {"qid": "2", "question": "Broken?", "decomposition": ["#7?"]},
    ]
    Path("in.json").write_text(json.dumps(found), encoding="utf-8")
    assert main(["data", "convert", "--from", "strategyqa", "--to", "jsonl", "in.json", "new/out.jsonl"]) == 0
    out, err = capsys.readouterr()
    assert out == "1 rows written to new/out.jsonl, 1 dropped (dangling reference: 1)\n"
    problem = "step 1 refers to #7, but there are 1 steps; correct or remove the row"
    assert err == f"dropped: in.json:1: sub_questions: {problem}\n"
    row = {"question": "Did Ada outlive Bob?", "sub_questions": ["When did Ada die?", "Is #1 late?"], "qid": "1"}
    assert json.loads(Path("new/out.jsonl").read_text(encoding="utf-8")) == row
    assert main(["check", "r.yaml", "data.train=new/out.jsonl"]) == 0


# As processes


def test_exit_codes_and_streams_of_a_process() -> None:
    good = shell("qdsft check r.yaml")
    assert (good.returncode, good.stderr) == (0, "")
    assert "\ndata: 5 rows to train on, 0 held out, all valid\nevaluation: no row is held out (5 rows, " in good.stdout
    bad = shell("qdsft check nope.yaml")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr == "error: nope.yaml: No such file or directory; give the path of a readable file\n"


@pytest.mark.parametrize("locale", ["PYTHONUTF8=0 LC_ALL=C", "PYTHONIOENCODING=cp1252"])
def test_korean_is_printed_in_any_locale(locale: str) -> None:
    Path("r.yaml").write_text(f"{RECIPE}prompt: {{system: 질문을}}\n", encoding="utf-8")
    shown = shell(f"{locale} qdsft recipe r.yaml")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert '"질문을"' in shown.stdout


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_stops_reading_is_no_error(reader: str) -> None:
    done = shell(f'qdsft recipe r.yaml | {reader}; echo "status ${{PIPESTATUS[0]}}"')
    assert done.stderr == ""
    assert done.stdout.endswith("status 0\n")


@pytest.mark.parametrize(
    "arguments", [r"check $'\xff.yaml'", r"check r.yaml $'data.train=\xff'", r"check r.yaml $'\xff=1'"]
)
def test_names_that_are_not_utf8_are_one_line(arguments: str) -> None:
    done = shell(f"qdsft {arguments}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_an_error_after_a_progress_bar_starts_a_new_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    bars = []

    def fail(*_: object) -> None:
        bars.append(tqdm(total=3))
        bars[0].update()
        bars[0].refresh()
        raise UserError("the disk is full")

    monkeypatch.setattr("qdsft.data.checks.check_recipe.check_recipe", fail)
    assert main(["check", "recipes/tiny/full.yaml"]) == 1
    assert capsys.readouterr().err.split("\n")[-2:] == ["error: the disk is full", ""]


def test_an_interrupt_is_no_traceback() -> None:
    # The data is a pipe into which nobody writes, so that the process waits where it is known to be.
    os.mkfifo("pipe")
    process = subprocess.Popen(
        [sys.executable, "-m", "qdsft", "check", "r.yaml", "data.train=pipe"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    writer = None
    while writer is None and process.poll() is None:
        try:
            writer = os.open("pipe", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # nobody reads yet
            time.sleep(0.01)
    assert writer is not None
    process.send_signal(signal.SIGINT)
    _, error_text = process.communicate(timeout=60)
    os.close(writer)
    assert (process.returncode, error_text) == (130, "interrupted\n")


LIGHT = [
    "--help",
    "recipe recipes/tiny/full.yaml",
    "check recipes/tiny/full.yaml model.name_or_path=user/model data.train=data/examples/sample_train.jsonl",
]


@pytest.mark.parametrize("arguments", LIGHT)
def test_light_commands_take_less_than_a_second(arguments: str) -> None:
    # Processor time, which is all of what an idle machine shows on the clock, and does not grow on a busy one.
    best = float("inf")
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "qdsft", *arguments.split()]
        subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if best < 1.0:
            break
    assert best < 1.0


@pytest.mark.parametrize("arguments", LIGHT[1:])
def test_light_commands_load_nothing_heavy(arguments: str) -> None:
    code = (
        f"import sys; from qdsft.cli.main import build_parser, main; assert main({arguments.split()!r}) == 0; "
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets', 'accelerate', 'numpy', 'matplotlib'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "x.yaml", "--learning_rate", "1e-4"], "written as training.learning_rate=1e-4"),
        (["check", "x.yaml", "--learning-rate=1e-4"], "written as training.learning_rate=1e-4"),
        (["train", "x.yaml", "--lora_r", "8", "--epochs", "3"], "as lora.r=8, training.num_train_epochs=3"),
        (["train", "x.yaml", "--training.packing", "true"], "written as training.packing=true"),
        (["plan", "x.yaml", "--load_in_4bit"], "written as quantization.load_in_4bit=VALUE"),
        (["train", "x.yaml", "--adapter", "qlora"], "written as lora.r (a lora section trains adapters; quantization"),
        (["train", "--config", "x.yaml"], "error: give the recipe without an option: qdsft train x.yaml"),
        (["preflight", "--config=x.yaml"], "error: give the recipe without an option: qdsft preflight x.yaml"),
        (["train", "x.yaml", "--num_processes", "2"], "; for several GPUs write --accelerate ddp"),
        (["train", "x.yaml", "--resume_from_checkpoint", "last"], "; write --resume"),
        (["train", "x.yaml", "--bf16"], "; bf16 is not set: precision follows model.dtype and the machine"),
        (["train", "x.yaml", "--deepspeed", "ds.json"], "; deepspeed is not set: choose it with accelerate launch"),
        (["train", "x.yaml", "--gradient-accumulation-steps=4"], "it is derived; set training.global_batch_size"),
        (
            ["train", "x.yaml", "--model", "a/b", "--data", "c.jsonl"],
            "as model.name_or_path=a/b, data.train (a file or",
        ),
        (["train", "x.yaml", "--colour", "red"], "unrecognized arguments: --colour red\n"),
        (["runs", "--learning_rate", "1"], "unrecognized arguments: --learning_rate"),
    ],
)
def test_options_of_other_tools(arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert hint in capsys.readouterr().err
