#!/usr/bin/env bash
# Train a recipe on this machine, on all GPUs or on the CPU, and evaluate it. The same command resumes an interrupted
# run.
#
#   scripts/train_local.sh RECIPE [section.key=value ...]
#
# CUDA_VISIBLE_DEVICES selects GPUs, ACCELERATE_CONFIG another accelerate file; EVALUATE=0 skips the evaluation.
set -euo pipefail
case ${1:-} in
-h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0" && exit 0 ;;
"" | -*) echo "usage: scripts/train_local.sh RECIPE [section.key=value ...]" >&2 && exit 2 ;;
esac
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/train.sh
source scripts/lib/train.sh
recipe=$(find_recipe "$1" "$here")
shift
bin=${QDSFT_BIN:-.venv/bin} # a virtual environment elsewhere
[[ -x $bin/qdsft ]] || make --no-print-directory setup

"$bin/qdsft" check "$recipe" "$@"
read_recipe "$recipe" "$@"
launch_arguments "$(count_gpus)" "$method"
first_gpu
training_command "$run_state" "$recipe" "$@"
"${training[@]}" # for a finished run, this prints so, or what has changed since
[[ ${EVALUATE:-1} == 0 ]] || "${on_one_gpu[@]}" "$bin/qdsft" evaluate "$run_dir"
