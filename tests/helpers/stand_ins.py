"""Run the real scripts without a pod: programs on PATH log their arguments and answer as a test sets."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.paths import ROOT

from qdsft.recipe import load_recipe
from qdsft.runs.facts import BaseModelFacts, DataFacts, DeviceFacts, Fingerprint, TokenFacts
from qdsft.runs.manifest import GoldenPrompt, Manifest

LOG = """
log() { local IFS='|'; printf '%s\\n' "$*" >>"$CALLS"; }
"""
NVIDIA_SMI = """
[[ ${FAKE_CARDS:-1} -gt 0 ]] || { echo "no devices were found"; exit 6; }
for ((card = 0; card < ${FAKE_CARDS:-1}; card++)); do
  case $1 in
  *=index) echo "$card" ;;
  *=memory.total) echo "$((${FAKE_GIB:-80} * 1024 - card))" ;;
  *) echo "NVIDIA H100, 81559 MiB, ${FAKE_DRIVER:-580.95.05}" ;;
  esac
done
"""
DF = """
echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
echo "volume 999 1 ${FAKE_FREE_KB:-500000000} 1% ${FAKE_MOUNT:-/workspace}"
"""
RUNPODCTL = """
log runpodctl "$@" "results: $(cd "$VOLUME" && ls outputs/*/metrics.json 2>/dev/null)"
exit "${FAKE_RUNPODCTL:-0}"
"""
# Returns at once where the test has said so, as if the time had passed: when training has begun.
SLEEP = """
if [[ $1 == "${FAKE_LIMIT:-}" ]]; then
  while [[ ! -e $CALLS.started ]]; do /bin/sleep 0.02; done
  exit 0
fi
exec /bin/sleep "$@"
"""
PYTHON = """
case "$1 $2" in
"-m venv")
  log python "$@"
  folder="${@: -1}"
  mkdir -p "$folder/bin"
  touch "$folder/pyvenv.cfg"
  cp "$STAND_INS/python3" "$folder/bin/python"
  cp "$STAND_INS/qdsft" "$STAND_INS/accelerate" "$folder/bin/"
  [[ -z ${REAL_TRAINING:-} ]] ||
    echo 'exec "$REAL_PYTHON" -m accelerate.commands.accelerate_cli "$@"' >"$folder/bin/accelerate" ;;
"-m pip")
  [[ $3 == --version ]] && exit 0
  log pip "${@:3}"
  [[ ${FAKE_FAIL:-} != "install" ]] || { echo "no space left"; exit 1; } ;;
*) exec "$REAL_PYTHON" "$@" ;;
esac
"""
# The real `qdsft recipe` starts in half a second: what it says is kept for all tests, but for the state of the run.
QDSFT = """
recipe() {
  local kept=$KEPT/$(printf '%s|' "${@//$VOLUME/@VOLUME@}" | sha256sum | cut -c 1-64) state=none
  if [[ ! -e $kept ]]; then
    "$REAL_PYTHON" -m qdsft "$@" >"$kept.$$" || exit 1
    sed -i -e "s|$VOLUME|@VOLUME@|g" -e 's|"run_state": ".*"|"run_state": "none"|' "$kept.$$"
    mv "$kept.$$" "$kept"
  fi
  [[ ! -e $FAKE_RUN_DIR/log.jsonl ]] || state=begun
  ! cmp -s "$FAKE_RUN_DIR/run.json" "$MANIFEST.finished" || state=finished
  sed -e "s|@VOLUME@|$VOLUME|g" -e '/"run_state"/'"s|none|$state|" "$kept"
}
case $1 in
recipe) [[ -n ${REAL_RECIPE:-} ]] || { recipe "$@"; exit; } ;&
plan) [[ $1 == plan && -z ${REAL_PLAN:-} ]] || exec "$REAL_PYTHON" -m qdsft "$@" ;;
esac
log qdsft "$@" "cards: ${CUDA_VISIBLE_DEVICES:-}"
[[ ${FAKE_FAIL:-} != "$1" ]] || exit 1
case $1 in
evaluate) echo '{}' >"$2/metrics.json" ;;
merge) mkdir "$4" ;;
esac
"""
# As the launchers: SIGTERM ends one at once, and the training below it before it has saved.
ACCELERATE = """
log accelerate "$@"
printf '%s\\n' "$HF_HOME" "$TORCH_EXTENSIONS_DIR" "$TRITON_CACHE_DIR" "$PIP_CACHE_DIR" >"$CALLS.caches"
run_dir=$FAKE_RUN_DIR
mkdir -p "$run_dir"
cp "$MANIFEST.running" "$run_dir/run.json"
echo '{}' >"$run_dir/log.jsonl"
case ${FAKE_TRAINING:-} in
fails) echo "error: the device ran out of memory" >&2; exit 1 ;;
waits | deaf)
  bash -c '
    save() { log training SIGTERM; touch "$CALLS.saving"; /bin/sleep 0.3; mkdir "$1/checkpoint-7"; exit 143; }
    trap "save $1" TERM
    [[ $FAKE_TRAINING == waits ]] || trap "" TERM
    touch "$CALLS.started"
    while :; do /bin/sleep 0.02; done' training "$run_dir" &
  trap "kill -KILL $!; exit 143" TERM
  wait $!
  exit 1 ;;
*) cp "$MANIFEST.finished" "$run_dir/run.json" ;;
esac
"""
DOCKER = """
log docker "$@"
case "$1 $2" in
"info "*) exit "${FAKE_ENGINE:-0}" ;;
"image inspect") exit "${FAKE_IMAGE:-1}" ;;
esac
"""
PROGRAMS = {
    "nvidia-smi": NVIDIA_SMI,
    "df": DF,
    "runpodctl": RUNPODCTL,
    "sleep": SLEEP,
    "python3": PYTHON,
    "qdsft": QDSFT,
    "accelerate": ACCELERATE,
    "docker": DOCKER,
}

KEPT = tempfile.mkdtemp(prefix="qdsft-stand-ins-")
atexit.register(shutil.rmtree, KEPT, ignore_errors=True)


class Pod:
    """The programs of one test, its volume, and the calls."""

    def __init__(self, folder: Path, run_name: str = "mistral-qlora_8gb") -> None:
        self.volume = folder / "volume"
        self.volume.mkdir()
        self.folder = ROOT
        """Folder in which scripts start."""
        self.run_dir = self.volume / "outputs" / run_name
        self.programs = folder / "programs"
        self.programs.mkdir()
        for name, body in PROGRAMS.items():
            path = self.programs / name
            path.write_text(f"#!/usr/bin/env bash\n{LOG}export -f log\n{body}", encoding="utf-8")
            path.chmod(0o755)
        self.calls_file = folder / "calls"
        for state in ("running", "finished"):
            (folder / f"manifest.{state}").write_text(manifest(state), encoding="utf-8")
        names = ("HF_HOME", "CUDA_VISIBLE_DEVICES", "QDSFT_CACHE", "RUNPOD_POD_ID", "HF_TOKEN")
        self.environment = {name: value for name, value in os.environ.items() if name not in names} | {
            "PATH": f"{self.programs}:/usr/local/bin:/usr/bin:/bin",
            "PYTHON": str(self.programs / "python3"),
            "STAND_INS": str(self.programs),
            "REAL_PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "KEPT": KEPT,
            "CALLS": str(self.calls_file),
            "MANIFEST": str(folder / "manifest"),
            "FAKE_RUN_DIR": str(self.run_dir),
            "VOLUME": str(self.volume),
        }

    def start(self, *arguments: str, script: str = "train_runpod.sh", **variables: str) -> subprocess.Popen[str]:
        """Start a script with variables set. Standard error is merged into standard output."""
        return subprocess.Popen(
            [str(ROOT / "scripts" / script), *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, script: str = "train_runpod.sh", **variables: str) -> tuple[int, str]:
        """Run a script to its end; return its status and output."""
        process = self.start(*arguments, script=script, **variables)
        out, _ = process.communicate(timeout=240)
        return process.returncode, out

    def calls(self, *programs: str) -> list[list[str]]:
        """Return the calls so far with their arguments, only of the named programs if any are named."""
        if not self.calls_file.exists():
            return []
        lines = [line.split("|") for line in self.calls_file.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if not programs or line[0] in programs]

    def words(self) -> list[str]:
        """Return the calls in short form, in order: `pip`, `qdsft check`, `accelerate`, ..."""
        return [" ".join(line[: 2 if line[0] == "qdsft" else 1]) for line in self.calls()]

    def forget(self) -> None:
        """Forget the calls."""
        self.calls_file.unlink(missing_ok=True)


def manifest(state: str) -> str:
    """Return a run.json of a run in this state."""
    recipe = load_recipe(ROOT / "recipes/mistral/qlora_8gb.yaml")
    return Manifest(
        state="finished" if state == "finished" else "running",
        recipe_path=str(recipe.path),
        recipe=recipe.resolved(),
        origins=recipe.origins,
        fingerprint=Fingerprint(),
        data=DataFacts(train_rows=0, eval_rows=0),
        tokens=TokenFacts(),
        template_sha256="0" * 64,
        golden_prompts=[GoldenPrompt(messages=[{"role": "user", "content": "q"}], ids=[1])],
        stop_token_ids=[2],
        base_model=BaseModelFacts(name_or_path=""),
        artifact="adapter",
        versions={},
        git=None,
        device=DeviceFacts(),
    ).model_dump_json()
