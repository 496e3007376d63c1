#!/usr/bin/env bash
# Train a recipe on one small GPU. First print, from the model's config.json alone, whether the recipe fits, and what to
# change if it does not. Then train as train_local.sh does.
#
#   scripts/train_low_memory.sh RECIPE [section.key=value ...]
#
# GPU_MEMORY=8 is the GPU's memory in GiB; with a display attached to it, give 7.2. FORCE=1 trains even if the plan
# fails or says that the recipe does not fit.
set -euo pipefail
case ${1:-} in
-h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0" && exit 0 ;;
"" | -*) echo "usage: scripts/train_low_memory.sh RECIPE [section.key=value ...]" >&2 && exit 2 ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${QDSFT_BIN:-$root/.venv/bin}
[[ -x $bin/qdsft ]] || make --no-print-directory -C "$root" setup

"$bin/qdsft" plan "$@" --gpu-memory "${GPU_MEMORY:-8}" --must-fit || [[ ${FORCE:-0} != 0 ]] || {
  echo "FORCE=1 trains all the same" >&2
  exit 1
}
# Reuse freed blocks for other sizes, which saves memory when rows differ in length.
export PYTORCH_ALLOC_CONF=${PYTORCH_ALLOC_CONF:-expandable_segments:True}
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
QDSFT_BIN=$bin exec "$root/scripts/train_local.sh" "$@"
