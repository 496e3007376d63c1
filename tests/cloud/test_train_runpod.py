"""scripts/train_runpod.sh from a bare pod to results, and every way in which it ends before."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.stand_ins import Pod

QLORA = "recipes/mistral/qlora_8gb.yaml"
STOPPING = {"STOP_POD": "1", "RUNPOD_POD_ID": "pod7"}


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def accelerate(pod: Pod) -> list[str]:
    """Arguments of the one training."""
    [call] = pod.calls("accelerate")
    return call[1:]


def refused(pod: Pod, *arguments: str, **variables: str) -> str:
    """The one line with `error:` of a run that ends with 1 before anything is trained."""
    status, out = pod.run(*arguments or (QLORA,), **variables)
    assert status == 1
    [error] = [line for line in out.splitlines() if line.startswith("error: ")]
    assert pod.calls("accelerate") == []
    return error


def wait_for(path: Path) -> None:
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


# The whole way


def test_one_card(pod: Pod) -> None:
    status, out = pod.run(QLORA, REAL_RECIPE="1")
    assert status == 0, out
    stages = ["qdsft check", "qdsft plan", "qdsft doctor", "qdsft preflight", "accelerate", "qdsft evaluate"]
    assert pod.words() == ["python", "pip", "pip", *stages]
    config = ["launch", "--quiet", "--config_file", "accelerate_configs/single_gpu.yaml", "--gpu_ids", "0"]
    assert accelerate(pod) == [*config, "scripts/run_sft.py", QLORA, f"training.output_dir={pod.run_dir}"]
    for folder in Path(f"{pod.calls_file}.caches").read_text(encoding="utf-8").split():
        assert Path(folder).is_relative_to(pod.volume)
    [log] = (pod.volume / "logs").iterdir()
    assert log.read_text(encoding="utf-8") == out
    assert out.endswith(f"== results are in {pod.run_dir}\n== done\n")


@pytest.mark.parametrize(
    ("recipe", "config", "preflight"),
    [("qlora_8gb", "ddp", True), ("lora", "ddp", True), ("full", "zero3", False)],
)
def test_four_cards(pod: Pod, recipe: str, config: str, preflight: bool) -> None:
    status, out = pod.run(f"recipes/mistral/{recipe}.yaml", f"training.output_dir={pod.run_dir}", FAKE_CARDS="4")
    assert status == 0, out
    assert accelerate(pod)[2:6] == ["--config_file", f"accelerate_configs/{config}.yaml", "--num_processes", "4"]
    # One process must not see four cards; and a full model is not for one of them.
    one_card = [call for call in pod.calls("qdsft") if call[1] in {"preflight", "evaluate"}]
    assert [call[1] for call in one_card] == (["preflight", "evaluate"] if preflight else ["evaluate"])
    assert {call[-1] for call in one_card} == {"cards: 0"}


def test_chosen_cards(pod: Pod) -> None:
    assert pod.run(QLORA, FAKE_CARDS="4", CUDA_VISIBLE_DEVICES="2")[0] == 0
    assert accelerate(pod)[3:6] == ["accelerate_configs/single_gpu.yaml", "--gpu_ids", "2"]
    assert pod.calls("qdsft")[-1][-1] == "cards: 2"


def test_several_machines(pod: Pod) -> None:
    machines = {"NODES": "2", "NODE_RANK": "1", "HEAD_IP": "10.0.0.1", "FAKE_CARDS": "8"}
    assert pod.run(QLORA, **machines)[0] == 0
    expected = "--num_machines 2 --num_processes 16 --machine_rank 1 --main_process_ip 10.0.0.1"
    assert expected in " ".join(accelerate(pod))
    assert not {"qdsft preflight", "qdsft evaluate"} & set(pod.words())  # the first machine's
    assert "HEAD_IP" in refused(Pod(pod.volume), NODES="2")


def test_merge_then_push_what_was_merged(pod: Pod) -> None:
    assert pod.run(QLORA, MERGE="1", PUSH_TO="user/name", **STOPPING)[0] == 0
    assert pod.words()[-4:] == ["qdsft evaluate", "qdsft merge", "qdsft push", "runpodctl"]
    merge, push = (call[1:] for call in pod.calls("qdsft")[-2:])
    merged = f"{pod.run_dir}/merged"
    assert merge[:4] == ["merge", str(pod.run_dir), "--output", merged]
    assert push[:4] == ["push", merged, "--repo-id", "user/name"]
    preflight = next(call for call in pod.calls("qdsft") if call[1] == "preflight")
    assert "publish.hub_model_id=user/name" in preflight  # whether the token may write is asked before training
    pod.forget()
    assert pod.run(QLORA, MERGE="1", PUSH_TO="user/name")[0] == 0
    assert pod.words() == ["qdsft check", "qdsft doctor", "qdsft push"]


def test_push_alone_and_no_scores(pod: Pod) -> None:
    assert pod.run(QLORA, EVALUATE="0", PUSH_TO="user/name")[0] == 0
    assert pod.calls("qdsft")[-1][1:5] == ["push", str(pod.run_dir), "--repo-id", "user/name"]
    assert {"qdsft evaluate", "qdsft merge"} & set(pod.words()) == set()


def test_overrides_keep_their_blanks_and_quotes(pod: Pod) -> None:
    overrides = ['prompt.user=Sum  up: {{ text }} "now" $HOME `ls`', "lora.target_modules=[q_proj, v_proj]"]
    assert pod.run(QLORA, *overrides)[0] == 0
    assert accelerate(pod)[-3:-1] == overrides
    for call in pod.calls("qdsft")[:4]:
        assert call[3:5] == overrides


@pytest.mark.parametrize(
    ("recipe", "variables", "options"),
    [
        ("full", {}, ["--gpus", "4", "--zero", "3"]),
        ("qlora", {}, ["--gpus", "4"]),
        ("full", {"CONFIG": "zero3_offload"}, ["--gpus", "4", "--zero", "3", "--offload"]),
        ("full", {"CONFIG": "fsdp2"}, ["--gpus", "4", "--fsdp"]),
        ("full", {"NODES": "2", "NODE_RANK": "0", "HEAD_IP": "10.0.0.1"}, ["--gpus", "8", "--zero", "3"]),
    ],
)
def test_the_launch_is_planned_before_the_model_is_downloaded(
    pod: Pod, recipe: str, variables: dict[str, str], options: list[str]
) -> None:
    if config := variables.pop("CONFIG", ""):
        variables["ACCELERATE_CONFIG"] = f"accelerate_configs/{config}.yaml"
    path = f"recipes/mistral/{recipe}.yaml"
    status, out = pod.run(path, FAKE_CARDS="4", FAKE_GIB="24", FAKE_FAIL="plan", **variables)
    assert status == 1 and "error: plan failed with status 1" in out
    assert pod.words() == ["python", "pip", "pip", "qdsft check", "qdsft plan"]
    planned = pod.calls("qdsft")[-1][1:-1]
    assert planned[:2] == ["plan", path] and planned[3:] == ["--gpu-memory", "24.00", *options, "--must-fit"]
    pod.forget()
    run_dir = f"training.output_dir={pod.run_dir}"
    status, _ = pod.run(path, run_dir, FAKE_CARDS="4", FAKE_GIB="24", FAKE_FAIL="plan", PLAN="0", **variables)
    assert status == 0 and "qdsft plan" not in pod.words()


# Again


def test_a_second_start_does_nothing_twice(pod: Pod) -> None:
    assert pod.run(QLORA)[0] == 0
    pod.forget()
    status, out = pod.run(QLORA, REAL_RECIPE="1")
    assert status == 0, out
    assert pod.words() == ["qdsft check", "qdsft doctor"]


def test_a_broken_run_is_resumed(pod: Pod) -> None:
    status, out = pod.run(QLORA, FAKE_TRAINING="fails")
    assert status == 1
    assert "error: training failed with status 1; see its message above and in " in out
    assert "--resume" not in accelerate(pod)
    pod.forget()
    assert pod.run(QLORA, REAL_RECIPE="1")[0] == 0
    assert accelerate(pod)[-1] == "--resume"
    assert "qdsft preflight" not in pod.words()


def test_an_installation_that_failed_is_repeated(pod: Pod) -> None:
    status, out = pod.run(QLORA, FAKE_FAIL="install")
    assert status == 1 and "error: the installation failed" in out
    pod.forget()
    assert pod.run(QLORA)[0] == 0
    assert pod.words()[:3] == ["pip", "pip", "qdsft check"]  # the environment was made already


@pytest.mark.parametrize("stage", ["check", "plan", "doctor", "preflight"])
def test_nothing_is_trained_after_a_failed_check(pod: Pod, stage: str) -> None:
    assert f"error: {stage} failed with status 1" in refused(pod, FAKE_FAIL=stage)
    assert pod.words()[-1] == f"qdsft {stage}"


# Before anything is installed


def test_no_card(pod: Pod) -> None:
    assert refused(pod, FAKE_CARDS="0").startswith("error: nvidia-smi finds no GPU; choose a pod with a GPU")
    assert pod.calls() == []
    assert pod.run(QLORA, FAKE_CARDS="0", ALLOW_CPU="1")[0] == 0
    assert accelerate(pod)[3] == "accelerate_configs/cpu.yaml"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"FAKE_DRIVER": "550.127.05"},
            "the driver is 550.127.05 and torch requires 580 or newer; filter pods by CUDA",
        ),
        ({"FAKE_FREE_KB": "2000000"}, "has 2 GB free and 30 are required; delete old checkpoints, enlarge it"),
        ({"PLAN": "no"}, "PLAN=no is neither 0 nor 1; correct it"),
        ({"VOLUME": "/nowhere"}, "there is no volume at /nowhere; attach one to the pod, or set VOLUME"),
        ({"FAKE_MOUNT": "/", **STOPPING}, "is on the container's own disk, which is lost when the pod stops; attach"),
        (
            {"STOP_POD": "1"},
            "STOP_POD=1 requires RUNPOD_POD_ID, which a pod sets; in a shell over SSH: source /etc/rp_",
        ),
        ({"MAX_COST": "5"}, "MAX_COST requires PRICE_PER_HOUR, the price of the pod per hour"),
        ({"MAX_HOURS": "two"}, "MAX_HOURS=two is not a number above 0; correct or remove it"),
        ({"MAX_HOURS": "0"}, "MAX_HOURS=0 is not a number above 0"),
        ({"PUSH_TO": "name"}, "PUSH_TO=name is not a repository; write user/name"),
        ({"MERGE": "yes"}, "MERGE=yes is neither 0 nor 1; correct it"),
        ({"NODES": "a[$(touch executed)]"}, "NODES=a[$(touch executed)] is not a whole number; correct"),
        ({"NODES": "2x"}, "NODES=2x is not a whole number"),
        ({"NODES": "-1"}, "NODES=-1 is not a whole number"),
        ({"NODES": "010"}, "NODES=010 is not a whole number"),
        ({"NODE_RANK": "x[$(touch executed)]"}, "NODE_RANK=x[$(touch executed)] is not a whole number"),
        ({"MIN_DRIVER": "x[$(touch executed)]"}, "MIN_DRIVER=x[$(touch executed)] is not a whole number"),
        ({"HEAD_PORT": "; touch executed"}, "HEAD_PORT=; touch executed is not a whole number"),
        ({"FAKE_DRIVER": "x[$(touch executed)]"}, "nvidia-smi names the driver x[$(touch executed)], which is no vers"),
    ],
)
def test_what_is_refused(pod: Pod, variables: dict[str, str], message: str) -> None:
    assert message in refused(pod, **variables)
    assert {call[0] for call in pod.calls()} <= {"runpodctl"}
    assert not list(pod.folder.glob("**/executed")) and not (ROOT / "executed").exists()


def test_stopping_needs_the_program_for_it(pod: Pod) -> None:
    (pod.programs / "runpodctl").unlink()
    assert "STOP_POD=1 requires runpodctl" in refused(pod, **STOPPING)


def test_results_off_the_volume_are_refused(pod: Pod) -> None:
    error = refused(pod, QLORA, "training.output_dir=/root/run")
    assert error.startswith("error: training.output_dir=/root/run is not on ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipes/mistral/qlra.yaml"], "there is no recipe recipes/mistral/qlra.yaml; choose one of: "),
        (["recipes/mistral"], "there is no recipe recipes/mistral; choose one of: "),
        ([QLORA, "my.jsonl"], "my.jsonl is no override; write section.key=value"),
        ([QLORA, "=1"], "=1 is no override"),
    ],
)
def test_a_wrong_recipe_is_reported_before_the_volume(pod: Pod, arguments: list[str], message: str) -> None:
    assert message in refused(pod, *arguments, VOLUME="/nowhere", FAKE_CARDS="0", FAKE_DRIVER="1")
    assert pod.calls() == []


@pytest.mark.parametrize(("arguments", "status"), [((), 2), (("--halp",), 2), (("--help",), 0), (("-h",), 0)])
def test_usage(pod: Pod, arguments: tuple[str, ...], status: int) -> None:
    found, out = pod.run(*arguments, **STOPPING)
    assert found == status and out.startswith("usage: [VARIABLE=value ...] scripts/train_runpod.sh RECIPE")
    assert pod.calls() == []


def test_the_guide_sets_only_variables_that_there_are(pod: Pod) -> None:
    _, known = pod.run("--help")
    guide = (ROOT / "docs" / "RUNPOD_GUIDE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b([A-Z][A-Z_]+)=", guide)) - {"RECIPE", "OVERRIDES"}
    assert named >= {"STOP_POD", "MAX_HOURS", "MAX_COST", "PRICE_PER_HOUR", "MERGE", "PUSH_TO", "NODES"}
    assert {name for name in named if name not in known} == set()


# The end of the pod


def test_the_pod_stops_when_the_results_are_there(pod: Pod) -> None:
    status, out = pod.run(QLORA, **STOPPING)
    assert status == 0, out
    stop = ["runpodctl", "stop", "pod", "pod7", "results: outputs/mistral-qlora_8gb/metrics.json"]
    assert pod.calls()[-1] == stop and len(pod.calls("runpodctl")) == 1


@pytest.mark.parametrize("variables", [{"FAKE_TRAINING": "fails"}, {"FAKE_FAIL": "evaluate"}, {"FAKE_FREE_KB": "1"}])
def test_a_failed_pod_stops_too_and_says_why_before(pod: Pod, variables: dict[str, str]) -> None:
    status, out = pod.run(QLORA, **STOPPING, **variables)
    assert status == 1
    assert out.index("error: ") < out.index("== stopping the pod pod7")
    assert pod.words()[-1] == "runpodctl" and len(pod.calls("runpodctl")) == 1


def test_no_pod_is_stopped_unasked(pod: Pod) -> None:
    pod.run(QLORA, RUNPOD_POD_ID="pod7")
    pod.run(QLORA, RUNPOD_POD_ID="pod7", FAKE_FAIL="check")
    assert pod.calls("runpodctl") == []


def test_a_pod_that_does_not_stop_is_reported(pod: Pod) -> None:
    status, out = pod.run(QLORA, FAKE_RUNPODCTL="1", **STOPPING)
    assert status == 1
    assert "error: the pod pod7 was not stopped and still costs money; stop it in RunPod's console" in out


# Limits and signals


@pytest.mark.parametrize(
    ("variables", "hours", "seconds"),
    [
        ({"MAX_HOURS": "1.5"}, "1.5", "5400.00"),
        ({"MAX_COST": "5", "PRICE_PER_HOUR": "2.5"}, "2", "7200.00"),
        ({"MAX_HOURS": "3", "MAX_COST": "5", "PRICE_PER_HOUR": "2.5"}, "2", "7200.00"),
        ({"MAX_HOURS": "1", "MAX_COST": "5", "PRICE_PER_HOUR": "2.5"}, "1", "3600.00"),
    ],
)
def test_a_limit_ends_training_after_its_save(pod: Pod, variables: dict[str, str], hours: str, seconds: str) -> None:
    status, out = pod.run(QLORA, FAKE_TRAINING="waits", FAKE_LIMIT=seconds, **variables, **STOPPING)
    assert status == 143, out
    assert f"== limit: {hours} h from now\n" in out
    # The training itself was asked, once, and the pod stopped when it had saved.
    assert pod.words()[-3:] == ["accelerate", "training", "runpodctl"]
    assert (pod.run_dir / "checkpoint-7").is_dir()
    assert (
        f"== ended by the limit of {hours} h; run the same command again to resume from the newest checkpoint\n" in out
    )


def test_a_training_that_does_not_save_is_killed(pod: Pod) -> None:
    variables = {"FAKE_TRAINING": "deaf", "MAX_HOURS": "1", "FAKE_LIMIT": "3600.00", "GRACE_MINUTES": "0.005"}
    status, out = pod.run(QLORA, **variables, **STOPPING)
    assert status == 143
    assert "== not ended after 0.005 minutes: killed\n" in out
    assert pod.words()[-1] == "runpodctl"
    assert processes(pod) == []


def processes(pod: Pod) -> list[str]:
    """Command lines of what still runs of a test."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(pod.volume) in line]


@pytest.mark.parametrize(
    ("number", "status", "reason", "stops"),
    [(signal.SIGTERM, 143, "SIGTERM", True), (signal.SIGINT, 130, "Ctrl-C", False)],
)
def test_a_signal_is_handed_on(pod: Pod, number: signal.Signals, status: int, reason: str, stops: bool) -> None:
    process = pod.start(QLORA, FAKE_TRAINING="waits", **STOPPING)
    wait_for(Path(f"{pod.calls_file}.started"))
    process.send_signal(signal.SIGHUP)  # the terminal was closed
    process.send_signal(number)
    wait_for(Path(f"{pod.calls_file}.saving"))
    process.send_signal(signal.SIGTERM)  # a second signal does not interrupt the save
    out, _ = process.communicate(timeout=30)
    assert process.returncode == status
    assert f"== ended by {reason}; " in out
    assert (pod.run_dir / "checkpoint-7").is_dir()
    assert bool(pod.calls("runpodctl")) == stops
    assert ("== the pod is left running" in out) != stops


def test_a_second_ctrl_c_kills(pod: Pod) -> None:
    process = pod.start(QLORA, FAKE_TRAINING="deaf")
    wait_for(Path(f"{pod.calls_file}.started"))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "== Ctrl-C again: killed\n" in out
    assert processes(pod) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_training_saves_at_a_signal_and_is_gone_on_with(pod: Pod, tiny_model: Callable[[str], Path]) -> None:
    overrides = [f"model.name_or_path={tiny_model('mistral')}", "training.max_steps=6", "training.report_to=none"]
    options = {"FAKE_CARDS": "0", "ALLOW_CPU": "1", "REAL_TRAINING": "1", "EVALUATE": "0", "REAL_RECIPE": "1"}
    options["OMP_NUM_THREADS"] = "1"
    process = pod.start(QLORA, *overrides, "training.max_length=256", **options)
    while process.poll() is None and not (pod.run_dir / "log.jsonl").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 143, out
    assert "stopped and saved at step " in out  # accelerate's launcher has passed on nothing, and was not ended
    [checkpoint] = pod.run_dir.glob("checkpoint-*")
    status, out = pod.run(QLORA, *overrides, "training.max_length=256", **options)
    assert status == 0, out
    assert f"resuming from {checkpoint}" in out and (pod.run_dir / "adapter").is_dir()
