#!/usr/bin/env bash
# Install the pinned versions and this checkout into a virtual environment. `make setup`, the container image and
# scripts/train_runpod.sh all run this file, so they get the same packages.
#
#   scripts/install.sh [--requirements-only] VENV [EXTRAS]
#
# EXTRAS are extras of pyproject.toml, such as deepspeed,wandb. `dev` also installs the tools of pyproject.toml's
# dependency group and the extras that the tests use. A second call without changes installs nothing: VENV/.ready holds
# a hash of the installed requirements and is written last. PYTHON selects the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "error: $*" >&2
  exit 1
}

whole=1
if [[ ${1:-} == --requirements-only ]]; then
  whole=0
  shift
fi
[[ $# -ge 1 && $# -le 2 ]] || { echo "usage: scripts/install.sh [--requirements-only] VENV [EXTRAS]" >&2; exit 2; }
venv=$1 extras=${2:-}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

python=${PYTHON:-}
if [[ -z $python ]]; then
  for python in python3 python3.12 python3.11 python3.13; do
    if command -v "$python" >/dev/null && new_enough "$python"; then break; fi
  done
fi
command -v "$python" >/dev/null || fail "$python is not installed; install Python 3.11 or newer, or set PYTHON=..."
new_enough "$python" || fail "Python 3.11 or newer is required, and $python is older; set PYTHON=python3.12"

works() {
  [[ -x $venv/bin/python ]] && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

# Includes the interpreter and the checkout: a volume may be mounted in another image or at another path.
wanted() {
  "$venv/bin/python" - "$PWD" "$extras" <<'END'
import hashlib, sys
from pathlib import Path
text = "\n".join([sys.version, *sys.argv[1:], *(Path(name).read_text() for name in ("requirements.txt", "pyproject.toml"))])
print(hashlib.sha256(text.encode()).hexdigest())
END
}

mkdir -p "$venv" 2>/dev/null || fail "$venv cannot be written; give another folder for the virtual environment"
if command -v flock >/dev/null; then # several nodes may share one volume
  exec 9>"$venv/.lock"
  flock 9
fi
if works; then
  if [[ -f $venv/.ready && $(cat "$venv/.ready") == "$(wanted)" ]]; then
    touch "$venv/.ready"
    exit 0
  fi
elif [[ ! -f $venv/pyvenv.cfg && -n $(find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock -print -quit) ]]; then
  fail "$venv holds files that are not a virtual environment; give another folder"
fi
rm -f "$venv/.ready"
works || "$python" -m venv --clear "$venv" ||
  fail "$python cannot create a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"

echo "installing into $venv (some minutes the first time)"
install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
    fail "the installation failed; check pip's message above, the connection and the free disk space, then start again"
}
install -r requirements.txt
[[ $whole == 1 ]] || exit 0
tools=()
if [[ ,$extras, == *,dev,* ]]; then
  extras=,$extras,
  extras=${extras/,dev,/,constrained,serve,break,retrieval,korean,demo,tensorboard,}
  extras=${extras#,} extras=${extras%,}
  # pip reads groups itself from 25.1 on; a new virtual environment may have an older one.
  "$venv/bin/python" - >"$venv/.tools.txt" <<'END'
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")
END
  tools=(-r "$venv/.tools.txt")
fi
install -e ".${extras:+[$extras]}" ${tools[@]+"${tools[@]}"} -c requirements.txt
wanted >"$venv/.ready.tmp"
mv "$venv/.ready.tmp" "$venv/.ready"
