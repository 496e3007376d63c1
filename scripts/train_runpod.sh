#!/usr/bin/env bash
# Train a recipe on a rented pod, from a bare image to evaluated, merged and pushed results. See --help.
set -euo pipefail

usage() {
  cat <<'END'
usage: [VARIABLE=value ...] scripts/train_runpod.sh RECIPE [section.key=value ...]

Install, check, train and evaluate, and if requested merge, push and stop the pod. Run the same command again to resume:
nothing is installed twice, training resumes from its newest checkpoint, and finished stages are skipped. A closed
terminal does not end the script. Its output is also written to VOLUME/logs/.

Where
  VOLUME=/workspace    storage that survives the pod, for environment, caches and results
  MIN_FREE_GB=30       least free space there, in GB
  MIN_DRIVER=580       oldest NVIDIA driver; torch 2.13 is built for CUDA 13.0
  ALLOW_CPU=0          1: continue without a GPU, to try this script with a tiny model
  ACCELERATE_CONFIG=   an accelerate file instead of the default: single_gpu for one GPU; for several GPUs
                       zero3 for a full recipe, otherwise ddp
  NODES=1              machines; each also requires NODE_RANK and HEAD_IP (HEAD_PORT=29500), and only the first
                       evaluates, merges and pushes
What
  PLAN=1               0: train even if the planned memory of the recipe does not fit the GPUs
  EVALUATE=1           0: do not score the held-out rows
  BASELINE=0           1: score the base model too
  MERGE=0              1: merge the adapter into its base, RUN_DIR/merged
  PUSH_TO=             user/name: upload the merged model, or without MERGE the run; requires HF_TOKEN
When to end
  MAX_HOURS=           hours from the start of this script
  MAX_COST=            money from the start of this script, with PRICE_PER_HOUR= in the same currency;
                       of two limits the smaller counts. At the limit training saves and ends with status 143
  GRACE_MINUTES=20     how long it may take to save before it is killed
  STOP_POD=0           1: stop the pod at the end, also after an error, but not after Ctrl-C; requires runpodctl

Exit status: 0 done, 1 error, 2 wrong usage, 130 Ctrl-C, 143 stopped at a limit or by SIGTERM; start again to resume.
END
}

case ${1:-} in
-h | --help) usage && exit 0 ;;
"" | -*) usage >&2 && exit 2 ;;
esac

here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/train.sh
source scripts/lib/train.sh
# shellcheck source=scripts/lib/limits.sh
source scripts/lib/limits.sh
recipe=$(find_recipe "$1" "$here")
overrides=("${@:2}")
volume=${VOLUME:-/workspace}

check_settings() {
  local name
  [[ -f $recipe ]] || die "there is no recipe $1; choose one of: $(cd recipes && echo */*.yaml)"
  for name in "${@:2}"; do
    [[ $name == ?*=* ]] || die "$name is no override; write section.key=value"
  done
  for name in MAX_HOURS MAX_COST PRICE_PER_HOUR MIN_FREE_GB GRACE_MINUTES; do
    [[ -z ${!name:-} ]] || is_number "${!name}" || die "$name=${!name} is not a number above 0; correct or remove it"
  done
  for name in NODES NODE_RANK HEAD_PORT MIN_DRIVER; do
    [[ -z ${!name:-} ]] || is_whole "${!name}" || die "$name=${!name} is not a whole number; correct or remove it"
  done
  for name in STOP_POD MERGE PLAN EVALUATE BASELINE ALLOW_CPU; do
    [[ ${!name:-0} =~ ^[01]$ ]] || die "$name=${!name} is neither 0 nor 1; correct it"
  done
  [[ -z ${MAX_COST:-} || -n ${PRICE_PER_HOUR:-} ]] || die "MAX_COST requires PRICE_PER_HOUR, the price of the pod per hour"
  [[ -z ${PUSH_TO:-} || $PUSH_TO =~ ^[^/]+/[^/]+$ ]] || die "PUSH_TO=$PUSH_TO is not a repository; write user/name"
  if [[ ${STOP_POD:-0} == 1 ]]; then
    [[ -n ${RUNPOD_POD_ID:-} ]] || die "STOP_POD=1 requires RUNPOD_POD_ID, which a pod sets; in a shell over SSH: source /etc/rp_environment"
    command -v runpodctl >/dev/null || die "STOP_POD=1 requires runpodctl, which RunPod's images have; install it or remove STOP_POD"
  fi
}

check_volume() {
  local free mounted minimum=${MIN_FREE_GB:-30}
  [[ -d $volume ]] || die "there is no volume at $volume; attach one to the pod, or set VOLUME=..."
  mkdir -p "$volume/logs" 2>/dev/null || die "$volume cannot be written; mount it for writing, or set VOLUME=..."
  read -r free mounted < <(df -Pk "$volume" | awk 'NR == 2 {print int($4 / 1000000 * 1.024), $6}')
  if [[ $mounted == / ]]; then
    [[ ${STOP_POD:-0} == 0 ]] || die "$volume is on the container's own disk, which is lost when the pod stops; attach a volume, or remove STOP_POD"
    say "note: $volume is on the container's own disk and is lost with the pod"
  fi
  awk -v free="$free" -v least="$minimum" 'BEGIN {exit !(free >= least)}' ||
    die "$volume has $free GB free and $minimum are required; delete old checkpoints, enlarge it, or set MIN_FREE_GB"
}

check_driver() {
  local gpus driver
  if ! gpus=$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null) || [[ -z $gpus ]]; then
    [[ ${ALLOW_CPU:-0} == 1 ]] || die "nvidia-smi finds no GPU; choose a pod with a GPU (ALLOW_CPU=1 continues without)"
    say "no GPU: using the CPU"
    return
  fi
  say "GPUs:"
  echo "$gpus"
  driver=$(head -n 1 <<<"$gpus" | awk -F', *' '{print $NF}')
  is_whole "${driver%%.*}" || die "nvidia-smi names the driver $driver, which is no version; update the driver"
  [[ ${driver%%.*} -ge ${MIN_DRIVER:-580} ]] ||
    die "the driver is $driver and torch requires ${MIN_DRIVER:-580} or newer; filter pods by CUDA version 13.0 and choose another (MIN_DRIVER overrides)"
}

# Caches are on the volume: a restarted pod downloads and compiles nothing twice.
use_volume() {
  export HF_HOME=${HF_HOME:-$volume/.cache/huggingface} PIP_CACHE_DIR=$volume/.cache/pip
  export TORCH_EXTENSIONS_DIR=$volume/.cache/torch_extensions TRITON_CACHE_DIR=$volume/.cache/triton
  export QDSFT_CACHE=${QDSFT_CACHE:-$volume/.cache/qdsft}
  bin=$volume/venv/bin
}

# Set run_dir on the volume, and the arguments of all later commands.
place_run() {
  read_recipe "$recipe" ${overrides[@]+"${overrides[@]}"}
  local absolute=$run_dir root
  root=$(cd "$volume" && pwd -P)
  [[ $absolute == /* ]] || absolute=$(pwd -P)/$run_dir
  if [[ $absolute != "$root"/* && $absolute != "$volume"/* ]]; then
    [[ $run_dir_origin == default ]] ||
      die "training.output_dir=$run_dir is not on $volume and would be lost with the pod; choose a folder there"
    overrides+=("training.output_dir=$volume/outputs/$run_name")
  fi
  [[ -z ${PUSH_TO:-} ]] || overrides+=("publish.hub_model_id=$PUSH_TO") # preflight then checks write permission
  arguments=("$recipe" ${overrides[@]+"${overrides[@]}"})
  read_recipe "${arguments[@]}"
}

# Check that the results exist, and write them to disk.
check_results() {
  read_recipe "${arguments[@]}"
  [[ $run_state == finished ]] || die "$run_dir: the run is not marked finished; start the same command again"
  [[ ${EVALUATE:-1} == 0 || -f $run_dir/metrics.json ]] || die "$run_dir: metrics.json is missing; start the same command again"
  sync -f "$run_dir" 2>/dev/null || sync
  say "results are in $run_dir"
}

publish() {
  local what=$run_dir
  if [[ ${MERGE:-0} == 1 && $method != full ]]; then
    what=$run_dir/merged # in the run directory, so that it is deleted with the run
    [[ -d $what ]] || stage merge "${on_one_gpu[@]}" "$bin/qdsft" merge "$run_dir" --output "$what"
  fi
  [[ -z ${PUSH_TO:-} ]] || stage push "$bin/qdsft" push "$what" --repo-id "$PUSH_TO"
}

main() {
  check_settings "$@"
  check_volume
  keep_log "$volume/logs/$(basename "$(dirname "$recipe")")-$(basename "$recipe" .yaml)${NODE_RANK:+-node$NODE_RANK}.log"
  start_limits
  check_driver
  use_volume
  stage install scripts/install.sh "$volume/venv" deepspeed
  place_run
  stage check "$bin/qdsft" check "${arguments[@]}"
  local gpus
  gpus=$(count_gpus)
  launch_arguments "$gpus" "$method"
  first_gpu
  if [[ $run_state == none && $gpus -gt 0 && ${PLAN:-1} == 1 ]]; then # before the model is downloaded
    plan_arguments "$gpus"
    stage plan "$bin/qdsft" plan "${arguments[@]}" "${planned[@]}" --must-fit
  fi
  stage doctor "$bin/qdsft" doctor "${arguments[@]}"
  if [[ $run_state == none && $gpus -gt 1 && $method == full || ${NODES:-1} -gt 1 ]]; then
    say "preflight: done by training, since the weights are sharded over GPUs"
  elif [[ $run_state == none ]]; then
    stage preflight "${on_one_gpu[@]}" "$bin/qdsft" preflight "${arguments[@]}"
  fi
  say "$run_dir: $run_state, $method, $gpus GPU(s)"
  training_command "$run_state" "${arguments[@]}"
  [[ $run_state == finished ]] || stage training "${training[@]}"
  [[ ${NODE_RANK:-0} == 0 ]] || return 0
  if [[ ${EVALUATE:-1} == 1 && ! -f $run_dir/metrics.json ]]; then
    local baseline=()
    [[ ${BASELINE:-0} == 0 ]] || baseline=(--baseline)
    stage evaluation "${on_one_gpu[@]}" "$bin/qdsft" evaluate "$run_dir" ${baseline[@]+"${baseline[@]}"}
  fi
  publish
  check_results
}

trap finish EXIT
main "$@"
