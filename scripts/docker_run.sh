#!/usr/bin/env bash
# Run a command in the container image, and build the image if it is missing. The command reads data/, writes results to
# outputs/, and uses the Hub's cache of this machine.
#
#   scripts/docker_run.sh qdsft doctor
#   scripts/docker_run.sh scripts/train_local.sh recipes/mistral/qlora_8gb.yaml
#
# IMAGE=qdsft is the image's name, GPUS=all selects the GPUs (none: the CPU). HF_TOKEN is passed on and never written to a file.
set -euo pipefail
case ${1:-} in
-h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0" && exit 0 ;;
"") echo "usage: scripts/docker_run.sh COMMAND [ARGUMENT ...]" >&2 && exit 2 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=${IMAGE:-qdsft} hub=${HF_HOME:-$HOME/.cache/huggingface}

docker info >/dev/null 2>&1 || {
  echo "error: Docker does not answer; start it, or add yourself to the group docker" >&2
  exit 1
}
docker image inspect "$image" >/dev/null 2>&1 || docker build --tag "$image" .

mkdir -p outputs models "$hub"
# Created here: Docker would create the folders as root, but the files should belong to the caller.
options=(--rm --init --ipc=host --user "$(id -u):$(id -g)" --env HF_TOKEN)
options+=(--volume "$PWD/data:/app/data" --volume "$PWD/outputs:/app/outputs" --volume "$PWD/models:/app/models")
options+=(--volume "$PWD/recipes:/app/recipes:ro" --volume "$hub:/home/qdsft/.cache/huggingface")
[[ ${GPUS:-all} == none ]] || options+=(--gpus "${GPUS:-all}")
[[ ! -t 0 ]] || options+=(--interactive --tty)
exec docker run "${options[@]}" "$image" "$@"
