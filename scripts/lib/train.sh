# shellcheck shell=bash disable=SC2034,SC2154
# What train_local.sh and train_runpod.sh share: asking qdsft about a recipe and choosing the launch. Needs $bin, the
# folder with python, qdsft and accelerate.

say() {
  echo "== $*"
}

# What is wrong and the remedy, on one line.
die() {
  echo "error: $*" >&2
  exit 1
}

is_number() {
  [[ $1 =~ ^[0-9]+(\.[0-9]+)?$ && ! $1 =~ ^[0.]+$ ]]
}

# read_recipe RECIPE [OVERRIDE ...]: sets run_name, method (full, lora, qlora), run_dir, run_dir_origin, and
# run_state (none, begun, finished).
read_recipe() {
  local facts
  facts=$("$bin/qdsft" recipe "$@" --json) || exit 1
  facts=$("$bin/python" -c '
import json, sys
facts = json.load(sys.stdin)
values = [facts[key] for key in ("name", "method", "run_state", "run_dir")]
print("\n".join([*values, facts["origins"].get("training.output_dir", "default")]))' <<<"$facts")
  { read -r run_name && read -r method && read -r run_state && read -r run_dir && read -r run_dir_origin; } <<<"$facts"
}

# Number of cards that this process may use; 0 without a driver.
count_cards() {
  local cards
  if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
    tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l
  elif cards=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null); then
    grep -c . <<<"$cards" || true
  else
    echo 0
  fi
}

# launch_arguments CARDS METHOD: sets the array `launch`, arguments of `accelerate launch` for this machine and method.
# NODES, NODE_RANK, HEAD_IP and HEAD_PORT describe several machines with CARDS each.
launch_arguments() {
  local cards=$1 method=$2 nodes=${NODES:-1} config
  if [[ $nodes -gt 1 ]]; then
    config=ddp
    [[ $method == full ]] && config=multi_node_zero3
  elif [[ $cards -eq 0 ]]; then
    config=cpu
  elif [[ $cards -eq 1 ]]; then
    config=single_gpu
  elif [[ $method == full ]]; then
    config=zero3
  else
    config=ddp # ZeRO-3 cannot gather 4-bit weights, and there is next to nothing to shard in adapters
  fi
  config=${ACCELERATE_CONFIG:-accelerate_configs/$config.yaml}
  [[ -f $config ]] || die "there is no $config; name another with ACCELERATE_CONFIG=..."
  launch=(--quiet --config_file "$config")
  if [[ $nodes -gt 1 ]]; then
    [[ -n ${HEAD_IP:-} && -n ${NODE_RANK:-} ]] ||
      die "NODES=$nodes needs HEAD_IP (address of the first machine) and NODE_RANK (0 on the first, 1 on the second, ...)"
    launch+=(--num_machines "$nodes" --num_processes $((nodes * cards)) --machine_rank "$NODE_RANK")
    launch+=(--main_process_ip "$HEAD_IP" --main_process_port "${HEAD_PORT:-29500}")
  elif [[ $cards -eq 1 ]]; then
    launch+=(--gpu_ids "${CUDA_VISIBLE_DEVICES:-0}") # accelerate goes by this and not by the variable
  elif [[ $cards -gt 1 ]]; then
    launch+=(--num_processes "$cards")
  fi
}

# training_command RUN_STATE RECIPE [OVERRIDE ...]: sets the array `training`; starts a run, or resumes one.
training_command() {
  training=("$bin/accelerate" launch "${launch[@]}" scripts/run_sft.py "${@:2}")
  [[ $1 == none ]] || training+=(--resume)
}

# For the stages of one process, which refuse to choose among several cards.
first_card() {
  local cards=${CUDA_VISIBLE_DEVICES:-0}
  on_one_card=(env CUDA_VISIBLE_DEVICES="${cards%%,*}")
}

# find_recipe PATH FOLDER: the recipe, named from FOLDER, as it is found from the root of the checkout, which is where
# data files are looked for.
find_recipe() {
  if [[ $1 != /* && $2 != "$PWD" && -f $2/$1 ]]; then echo "$2/$1"; else echo "$1"; fi
}
