# shellcheck shell=bash disable=SC2154
# For train_runpod.sh: run stages until a limit of time or money or a signal, write a log, and stop the pod.
# Requires lib/train.sh.

child=""   # process of the current stage, leader of its process group
stopped="" # reason for running no further stage
timers=()

# keep_log FILE: also write the output to FILE, and ignore a closed terminal.
keep_log() {
  trap '' HUP
  log=$1
  exec > >(exec tee -a -p "$log") 2>&1
  say "$(date -u +%FT%TZ) $0; log: $log"
}

# after SECONDS SIGNAL: send the signal to this script after that time.
after() {
  set -m
  (sleep "$1" && kill -s "$2" $$) >/dev/null 2>&1 </dev/null &
  timers+=("$!")
  disown
  set +m
}

# Start the limit: the smaller of MAX_HOURS and MAX_COST / PRICE_PER_HOUR.
start_limits() {
  local hours
  hours=$(awk -v hours="${MAX_HOURS:-0}" -v cost="${MAX_COST:-0}" -v price="${PRICE_PER_HOUR:-1}" 'BEGIN {
    most = cost / price
    if (hours == 0 || (most > 0 && most < hours)) hours = most
    print hours}')
  trap 'stop_stage "Ctrl-C" 130' INT
  trap 'stop_stage "SIGTERM" 143' TERM
  trap 'stop_stage "the limit of $limit h" 143' USR1
  trap 'kill_stage "not ended after ${GRACE_MINUTES:-20} minutes"' USR2
  [[ $hours != 0 ]] || return 0
  limit=$hours
  after "$(awk -v hours="$hours" 'BEGIN {printf "%.2f", hours * 3600}')" USR1
  say "limit: $hours h from now"
}

# stop_stage REASON STATUS: ask the stage to save and exit. While it saves, only Ctrl-C kills it.
stop_stage() {
  if [[ -n $stopped ]]; then
    [[ $2 != 130 ]] || kill_stage "Ctrl-C again"
    return 0
  fi
  stopped=$1 stopped_status=$2
  [[ -n $child ]] || exit "$stopped_status"
  say "$stopped: asking for a save"
  after "$(awk -v minutes="${GRACE_MINUTES:-20}" 'BEGIN {print minutes * 60}')" USR2
  # Signal the workers, not the launcher: accelerate's launcher exits and leaves the training running, and torch's
  # kills the training after 30 s.
  local workers=()
  [[ $stage != training ]] || read -ra workers 2>/dev/null <"/proc/$child/task/$child/children" || true
  if [[ ${#workers[@]} -gt 0 ]]; then
    kill -TERM "${workers[@]}" 2>/dev/null || true
  else
    kill -TERM -- "-$child" 2>/dev/null || true
  fi
}

kill_stage() {
  [[ -n $child ]] || return 0
  say "$1: killed"
  kill -KILL -- "-$child" 2>/dev/null || true
}

# stage NAME COMMAND [ARGUMENT ...]: run one stage. If it fails or is stopped, exit with the reason.
stage() {
  local status=0
  stage=$1
  say "$stage"
  set -m
  "${@:2}" </dev/null &
  child=$!
  set +m
  while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done # a signal to this script interrupts wait
  wait "$child" || status=$?
  while [[ -n $stopped ]] && kill -0 -- "-$child" 2>/dev/null; do sleep 0.1; done
  child=""
  [[ -z $stopped ]] || exit "$stopped_status"
  [[ $status == 0 ]] || die "$stage failed with status $status; see its message above${log:+ and in $log}; run the same command again to continue from here"
}

# Print how the script ended, and stop the pod if STOP_POD=1. For `trap finish EXIT`.
finish() {
  local status=$? timer
  trap - EXIT INT TERM USR1 USR2
  [[ -z $child ]] || kill -KILL -- "-$child" 2>/dev/null || true
  for timer in ${timers[@]+"${timers[@]}"}; do kill -- "-$timer" 2>/dev/null || true; done
  if [[ -n $stopped ]]; then
    say "ended by $stopped; run the same command again to resume from the newest checkpoint"
  elif [[ $status == 0 ]]; then
    say "done"
  fi
  if [[ ${STOP_POD:-0} == 1 && $status != 130 ]]; then
    stop_pod || status=$((status == 0 ? 1 : status))
  elif [[ ${STOP_POD:-0} == 1 ]]; then
    say "the pod is left running"
  fi
  exit "$status"
}

stop_pod() {
  [[ -n ${RUNPOD_POD_ID:-} ]] && command -v runpodctl >/dev/null || return 1 # check_settings has printed why
  say "stopping the pod $RUNPOD_POD_ID"
  sync
  runpodctl stop pod "$RUNPOD_POD_ID" || runpodctl pod stop "$RUNPOD_POD_ID" || {
    echo "error: the pod $RUNPOD_POD_ID was not stopped and still costs money; stop it in RunPod's console" >&2
    return 1
  }
}
