# shellcheck shell=bash disable=SC2034 # the other files read them
# SPDX-License-Identifier: Apache-2.0
# What every verb uses: messages, presets, and `watched`, which shows that a
# long step is alive. Messages go to stderr, so that stdout holds only what
# was asked for (a list, a table, the app's own output).

readonly DEPS=$ROOT/.deps
readonly VENV=$DEPS/venv
readonly PRESETS=(cpu cuda asan tsan)

note() { printf 'book: %s\n' "$*" >&2; }

die() {
  note "$*"
  exit 1
}

usage_error() {
  note "$*"
  exit 2
}

cannot_run_here() {
  note "$*"
  exit 77
}

is_one_of() {
  local word=$1 other
  shift
  for other in "$@"; do [[ $word != "$other" ]] || return 0; done
  return 1
}

# Prints " (did you mean 'X'?)" where one of the candidates is near.
did_you_mean() {
  command -v python3 >/dev/null || return 0
  python3 "$ROOT/scripts/manifest.py" suggest -- "$@"
}

# An option that needs a value: dies unless one follows.
need_value() {
  [[ $# -ge 2 && -n $2 ]] || usage_error "$1 needs a value"
}

now_ms() { printf '%s' "$((${EPOCHREALTIME//[!0-9]/} / 1000))"; }

# seconds_since START_MS -> "12.3"
seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

megabytes() { printf '%d MB' $((($1 + 500000) / 1000000)); }

on_path_or_cuda() {
  command -v nvcc || {
    [[ -x /usr/local/cuda/bin/nvcc ]] && printf '/usr/local/cuda/bin/nvcc\n'
  }
}

# Sets NVCC (empty if none) and NVCC_MAJOR.
find_nvcc() {
  NVCC=$(on_path_or_cuda || true) NVCC_MAJOR=
  [[ -z $NVCC ]] || NVCC_MAJOR=$("$NVCC" --version 2>/dev/null |
    sed -n 's/.*release \([0-9]*\)\..*/\1/p')
}

# The major release of CUDA that the pinned wheel was made with.
wheel_cuda_major() {
  local line
  while read -r line; do
    [[ $line != nvidia-cuda-runtime==* ]] || break
  done <"$ROOT/scripts/deps.lock"
  line=${line#*==}
  printf '%s' "${line%%.*}"
}

# Sets PRESET from $1 (may be empty), DAI_PRESET, or what the machine has.
choose_preset() {
  PRESET=${1:-${DAI_PRESET:-}}
  if [[ -n $PRESET ]]; then
    is_one_of "$PRESET" "${PRESETS[@]}" ||
      usage_error "no preset '$PRESET'$(did_you_mean "$PRESET" \
        "${PRESETS[@]}"); there are: ${PRESETS[*]}"
  else
    find_nvcc
    PRESET=cpu
    if [[ -n $NVCC && $NVCC_MAJOR == "$(wheel_cuda_major)" ]]; then
      PRESET=cuda
    elif [[ -n $NVCC ]]; then
      note "nvcc is release ${NVCC_MAJOR:-unknown}, LibTorch needs" \
        "$(wheel_cuda_major): building for the CPU"
    fi
  fi
  BUILD=$ROOT/build/$PRESET
}

# The sanitizer presets build what needs no torch.
preset_has_torch() { [[ $PRESET != asan && $PRESET != tsan ]]; }

# Takes `--preset P` and `--preset=P` out of the arguments: sets REST.
take_preset() {
  local preset=
  REST=()
  while (($#)); do
    case $1 in
      --preset)
        need_value "$@"
        preset=$2
        shift
        ;;
      --preset=*) preset=${1#*=} ;;
      --)
        REST+=("$@")
        break
        ;;
      *) REST+=("$1") ;;
    esac
    shift
  done
  choose_preset "$preset"
}

refuse_arguments() {
  local verb=$1
  shift
  (($# == 0)) ||
    usage_error "$verb does not take '$1'; scripts/book $verb --help"
}

# A path as the reader should type it: relative where they stand in the root.
shown() {
  if [[ $PWD == "$ROOT" ]]; then
    printf '%s' "${1#"$ROOT"/}"
  else
    printf '%s' "$1"
  fi
}

# watched LABEL LOG GROWING COMMAND...
# Runs COMMAND with its output in LOG and no stdin. Meanwhile a terminal
# shows seconds and the size of the folder GROWING (may be empty); without a
# terminal a plain line appears every 20 s. The last lines of LOG and its
# name are shown if COMMAND fails, and its exit code is returned.
watched() {
  local label=$1 log=$2 growing=$3 start code=0 tick=0 size='' child
  shift 3
  WORKED=1
  start=$(now_ms)
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 </dev/null &
  child=$!
  # A background job ignores Ctrl-C; pass it on and leave nothing running.
  trap 'kill "$child" 2>/dev/null; wait "$child"; exit 130' INT TERM
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.1
    tick=$((tick + 1))
    if [[ -t 2 && $((tick % 10)) == 0 ]]; then
      if [[ -n $growing && $((tick % 30)) == 0 && -d $growing ]]; then
        size=", $(du -sm "$growing" 2>/dev/null | cut -f1) MB"
      fi
      printf '\r  %s: %s s%s\033[K' "$label" "$((tick / 10))" "$size" >&2
    elif [[ ! -t 2 && $((tick % 200)) == 0 ]]; then
      [[ ! -d $growing ]] ||
        size=", $(du -sm "$growing" 2>/dev/null | cut -f1) MB"
      printf '  %s: %s s%s so far\n' "$label" "$((tick / 10))" "$size" >&2
    fi
  done
  wait "$child" || code=$?
  trap - INT TERM
  [[ ! -t 2 ]] || printf '\r\033[K' >&2
  if ((code)); then
    note "$label failed after $(seconds_since "$start") s:"
    tail -n 40 "$log" | sed 's/^/  | /' >&2
    note "all of its output: $(shown "$log")"
    return "$code"
  fi
  printf '  %s: %s s\n' "$label" "$(seconds_since "$start")" >&2
}
