# shellcheck shell=bash disable=SC2034,SC2154
# Shared by train_local.sh and train_runpod.sh: read a recipe with qdsft, and choose the launch. Requires $bin, the
# folder with python, qdsft and accelerate.

say() {
  echo "== $*"
}

# die MESSAGE: print the fault and the remedy on one line, and exit.
die() {
  echo "error: $*" >&2
  exit 1
}

is_number() {
  [[ $1 =~ ^[0-9]+(\.[0-9]+)?$ && ! $1 =~ ^[0.]+$ ]]
}

# For values that are compared as numbers: bash would run a command in what is no number.
is_whole() {
  [[ $1 =~ ^(0|[1-9][0-9]{0,8})$ ]]
}

# read_recipe RECIPE [OVERRIDE ...]: set run_name, method (full, lora, qlora), run_dir, run_dir_origin, and
# run_state (none, begun, finished).
read_recipe() {
  local facts
  facts=$("$bin/qdsft" recipe "$@" --json) || exit 1
  {
    IFS= read -r -d '' run_name && IFS= read -r -d '' method && IFS= read -r -d '' run_state &&
      IFS= read -r -d '' run_dir && IFS= read -r -d '' run_dir_origin
  } < <("$bin/python" -c '
import json, sys
facts = json.load(sys.stdin)
values = [facts[key] for key in ("name", "method", "run_state", "run_dir")]
for value in [*values, facts["origins"].get("training.output_dir", "default")]:
    sys.stdout.write(value + "\0")' <<<"$facts") || die "qdsft recipe $1: its answer cannot be read"
}

# Print the number of GPUs that this process may use; 0 without a driver.
count_gpus() {
  local gpus
  if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
    tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l
  elif gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null); then
    grep -c . <<<"$gpus" || true
  else
    echo 0
  fi
}

# launch_arguments GPUS METHOD: set the array `launch`, the arguments of `accelerate launch` for this machine and method.
# NODES, NODE_RANK, HEAD_IP and HEAD_PORT describe several machines with GPUS each.
launch_arguments() {
  local gpus=$1 method=$2 nodes=${NODES:-1} config
  is_whole "$nodes" || die "NODES=$nodes is not a whole number; correct or remove it"
  if [[ $nodes -gt 1 ]]; then
    config=ddp
    [[ $method == full ]] && config=multi_node_zero3
  elif [[ $gpus -eq 0 ]]; then
    config=cpu
  elif [[ $gpus -eq 1 ]]; then
    config=single_gpu
  elif [[ $method == full ]]; then
    config=zero3
  else
    config=ddp # ZeRO-3 cannot gather 4-bit weights, and adapters are too small to shard
  fi
  config=${ACCELERATE_CONFIG:-accelerate_configs/$config.yaml}
  [[ -f $config ]] || die "there is no $config; name another with ACCELERATE_CONFIG=..."
  launch=(--quiet --config_file "$config")
  if [[ $nodes -gt 1 ]]; then
    [[ -n ${HEAD_IP:-} && -n ${NODE_RANK:-} ]] ||
      die "NODES=$nodes requires HEAD_IP (address of the first machine) and NODE_RANK (0 on the first, 1 on the second, ...)"
    launch+=(--num_machines "$nodes" --num_processes $((nodes * gpus)) --machine_rank "$NODE_RANK")
    launch+=(--main_process_ip "$HEAD_IP" --main_process_port "${HEAD_PORT:-29500}")
  elif [[ $gpus -eq 1 ]]; then
    launch+=(--gpu_ids "${CUDA_VISIBLE_DEVICES:-0}") # accelerate reads this and ignores the variable
  elif [[ $gpus -gt 1 ]]; then
    launch+=(--num_processes "$gpus")
  fi
}

# Print the memory of the smallest GPU in GiB.
gpu_memory() {
  nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | sort -n | awk 'NR == 1 {printf "%.2f", $1 / 1024}'
}

# plan_arguments GPUS: set the array `planned`, the options by which `qdsft plan` describes this launch.
plan_arguments() {
  local config=${launch[2]} stage
  planned=(--gpu-memory "$(gpu_memory)" --gpus $((${NODES:-1} * $1)))
  stage=$(awk '$1 == "zero_stage:" {print $2}' "$config")
  [[ -z $stage ]] || planned+=(--zero "$stage")
  ! grep -q '^distributed_type: FSDP' "$config" || planned+=(--fsdp)
  ! grep -Eq 'offload_param_device: cpu|fsdp_offload_params: true' "$config" || planned+=(--offload)
}

# training_command RUN_STATE RECIPE [OVERRIDE ...]: set the array `training`, the command that starts or resumes a run.
training_command() {
  training=("$bin/accelerate" launch "${launch[@]}" scripts/run_sft.py "${@:2}")
  [[ $1 == none ]] || training+=(--resume)
}

# Choose the first GPU for stages of one process, which refuse several GPUs.
first_gpu() {
  local gpus=${CUDA_VISIBLE_DEVICES:-0}
  on_one_gpu=(env CUDA_VISIBLE_DEVICES="${gpus%%,*}")
}

# find_recipe PATH FOLDER: print the path of a recipe that is given relative to FOLDER. Commands run in the root of the
# checkout, because data files are looked up there.
find_recipe() {
  if [[ $1 != /* && $2 != "$PWD" && -f $2/$1 ]]; then echo "$2/$1"; else echo "$1"; fi
}
