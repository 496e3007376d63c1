#!/usr/bin/env bash
# Resolve the package with each of its extras, without installing: tests/resolve_extras.sh [VENV]
# uv resolves each extra with the pins of requirements.txt, pip all of them together. Poetry checks pyproject.toml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${1:-.venv}
tools=$venv/optional/resolvers

if [[ ! -x $tools/bin/poetry ]]; then
  "$venv/bin/python" -m venv "$tools"
  "$tools/bin/python" -m pip install --quiet --disable-pip-version-check poetry==2.5.1 uv==0.13.9
fi
"$tools/bin/poetry" check --quiet

extras=$("$venv/bin/python" - <<'END'
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"])
END
)
for extra in $extras; do
  echo "resolving the extra $extra"
  "$tools/bin/uv" pip compile --quiet --python-version 3.11 --extra "$extra" -c requirements.txt pyproject.toml >/dev/null
done
echo "resolving all extras together, for the newest Python and with pip"
"$tools/bin/uv" pip compile --quiet --python-version 3.14 --all-extras --group dev pyproject.toml >/dev/null
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --dry-run -c requirements.txt ".[all,gemma]"
