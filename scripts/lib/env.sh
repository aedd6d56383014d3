# shellcheck shell=bash disable=SC2154 # common.sh sets them
# SPDX-License-Identifier: Apache-2.0
# `env`: what is here, what will build, what is missing and what gets it.
# Reads file names and package versions only, so it answers at once, before
# any set-up, and without importing torch.

help_env() {
  cat <<'EOF'
usage: scripts/book env [--json]

Tools, packages and versions; which presets will build here; what is missing
for the rest and the command that gets it; GPU, NCCL, cores, memory, disk.
Needs nothing set up, and exits 0 whatever is missing.
EOF
}

# Rows: part<TAB>found<TAB>needed for<TAB>state (ok, missing, -).
env_row() { printf '%s\t%s\t%s\t%s\n' "$@"; }

env_package_rows() {
  local -A version=()
  local name group package reason found names=()
  mapfile -t names < <(package_names build tests)
  if command -v dpkg-query >/dev/null; then
    while read -r name found; do version[$name]=$found; done \
      < <(installed_packages "${names[@]}" || true)
  fi
  while read -r group package reason; do
    found=${version[$package]:-}
    if ! command -v dpkg-query >/dev/null && [[ $reason == *command:* ]]; then
      found=$(command -v "${reason##*command:}" || true)
    fi
    reason=${reason%%command:*}
    [[ $group == build ]] || reason="tests: $reason"
    env_row "$package" "${found:--}" "$reason" \
      "$([[ -n $found ]] && echo ok || echo missing)"
  done < <(grep -v '^#' "$ROOT/scripts/apt-packages.txt" | tr -s ' ')
}

# The version of a wheel in the venv, from the name of its folder.
wheel_version() {
  local folder
  for folder in "$VENV"/lib/python3.*/site-packages/"$1"-*.dist-info; do
    [[ ! -d $folder ]] || {
      folder=${folder##*/"$1"-}
      printf '%s' "${folder%.dist-info}"
      return
    }
  done
}

libtorch_version() {
  awk '/^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) / { v = v dot $3; dot = "." }
    END { print v }' "$LIBTORCH_DIR/include/torch/headeronly/version.h" \
    2>/dev/null || true
}

env_wheel_row() {
  local found
  found=$(wheel_version "$1")
  env_row "$2" "${found:--}" "$3" \
    "$([[ -n $found ]] && echo ok || echo missing)"
}

env_rows() {
  local python nvcc torchrun=''
  python=$(python3 --version 2>/dev/null || true)
  env_row python3 "${python#Python }" 'set-up, scripts' \
    "$([[ -n $python ]] && echo ok || echo missing)"
  env_package_rows
  if [[ -n $LIBTORCH_DIR ]]; then
    env_row LibTorch "$(libtorch_version)" 'all chapters (LIBTORCH)' ok
  else
    env_wheel_row torch 'LibTorch (wheel)' 'all chapters'
  fi
  env_wheel_row nvidia_cublas 'CUDA libraries' 'preset cuda, torchrun'
  env_wheel_row nvidia_nccl_cu13 NCCL 'GPU collectives'
  if [[ -n $(wheel_version typing_extensions) &&
    -n $(wheel_version nvidia_cublas) ]]; then
    torchrun=$(wheel_version torch)
  fi
  env_row torchrun "${torchrun:--}" 'tests: starting apps by torchrun' \
    "$([[ -n $torchrun ]] && echo ok || echo missing)"
  env_wheel_row clang_format clang-format 'tests: formatting'
  env_wheel_row matplotlib matplotlib 'plot'
  env_wheel_row tokenizers tokenizers 'tests: reference tokenizer'
  nvcc=$(sed -n 's/.*release [0-9.]*, V//p' \
    < <([[ -z $NVCC ]] || "$NVCC" --version))
  env_row nvcc "${nvcc:--}" \
    "preset cuda (release $(wheel_cuda_major))" \
    "$([[ $NVCC_MAJOR == "$(wheel_cuda_major)" ]] && echo ok || echo missing)"
}

# The GPUs as the driver names them, or why there are none.
gpu_state() {
  local names
  if command -v nvidia-smi >/dev/null && names=$(timeout 1 nvidia-smi \
    --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null) &&
    [[ -n $names ]]; then
    printf '%s' "${names//$'\n'/; }"
  elif compgen -G '/dev/nvidia[0-9]*' >/dev/null; then
    printf 'a device file, but nvidia-smi does not answer'
  else
    printf 'none: GPU runs exit 77, everything else runs on the CPU'
  fi
}

nccl_state() {
  local version
  version=$(wheel_version nvidia_nccl_cu13)
  if [[ -z $version ]]; then
    printf 'not installed: process groups use gloo'
  elif compgen -G '/dev/nvidia[0-9]*' >/dev/null; then
    printf '%s (wheel), ready' "$version"
  else
    printf '%s (wheel), compiles and links; no GPU to run on' "$version"
  fi
}

machine_state() {
  local model memory disk
  model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
  memory=$(awk '/^MemTotal:/ {printf "%.1f", $2 / 1048576}' /proc/meminfo)
  disk=$(df -Pk "$ROOT" | awk 'NR == 2 {printf "%.0f", $4 / 1048576}')
  printf '%s cores, %s, %s GiB memory, %s GiB disk free' "$(nproc)" \
    "${model:-$(uname -m)}" "$memory" "$disk"
}

# What preset $1 still lacks, given ROWS; empty: it builds.
preset_lacks() {
  local part _found reason state lacks=()
  while IFS=$'\t' read -r part _found reason state; do
    [[ $state == missing ]] || continue
    case $part in
      nvcc | 'CUDA libraries' | NCCL)
        [[ $1 != cuda ]] || lacks+=("$part")
        ;;
      torchrun | clang-format | matplotlib) ;;
      *) [[ $reason == tests:* ]] || lacks+=("$part") ;;
    esac
  done <<<"$ROWS"
  local IFS=,
  printf '%s' "${lacks[*]}"
}

verb_env() {
  local json='' cpu cuda tests='' part _found reason state
  [[ ${1:-} != --json ]] || {
    json=1
    shift
  }
  refuse_arguments env "$@"
  find_nvcc
  choose_libtorch
  ROWS=$(env_rows)
  cpu=$(preset_lacks cpu)
  cuda=$(preset_lacks cuda)
  while IFS=$'\t' read -r part _found reason state; do
    [[ $state != missing ]] || case "$part $reason" in
      torchrun* | clang-format* | *' tests:'*) tests+=,$part ;;
    esac
  done <<<"$ROWS"
  tests=${tests#,}
  if [[ -n $json ]]; then
    env_json "$cpu" "$cuda" "$tests"
    return
  fi
  { env_row part found 'needed for' state && printf '%s\n' "$ROWS"; } |
    awk -F '\t' '{ f = $2; if (length(f) > 24) f = substr(f, 1, 21) "..."
      printf "%-22s %-25s %-34s %s\n", $1, f, $3, $4 }'
  printf '\n'
  env_line 'preset cpu' "$cpu" 'scripts/book setup --preset cpu'
  if [[ ,$cuda, == *,nvcc,* ]]; then
    printf '%-12s no: nvcc of CUDA %s is not here (set-up does not %s\n' \
      'preset cuda' "$(wheel_cuda_major)" 'install a CUDA toolkit)'
  else
    env_line 'preset cuda' "$cuda" 'scripts/book setup --preset cuda'
  fi
  env_line tests "${cpu:+$cpu${tests:+,}}$tests" 'scripts/book setup --tests'
  printf '%-12s %s\n' GPU "$(gpu_state)" NCCL "$(nccl_state)" \
    machine "$(machine_state)"
}

env_line() {
  if [[ -z $2 ]]; then
    printf '%-12s yes, all is here\n' "$1"
  else
    local -a lacks
    IFS=, read -ra lacks <<<"$2"
    if ((${#lacks[@]} > 8)); then lacks=("${#lacks[@]} parts, see above"); fi
    printf '%-12s missing: %s\n%-12s get it:  %s\n' "$1" "${lacks[*]}" '' "$3"
  fi
}

env_json() {
  python3 - "$ROWS" "$(gpu_state)" "$(nccl_state)" "$(machine_state)" \
    "$@" <<'EOF'
import json, sys
rows, gpu, nccl, machine, cpu, cuda, tests = sys.argv[1:]
keys = ("part", "found", "needed_for", "state")
parts = [dict(zip(keys, (cell.strip() for cell in row.split("\t"))))
         for row in rows.splitlines()]
missing = {name: [part for part in text.split(",") if part]
           for name, text in (("cpu", cpu), ("cuda", cuda), ("tests", tests))}
print(json.dumps({"schema": 1, "parts": parts, "missing": missing,
                  "gpu": gpu, "nccl": nccl, "machine": machine}, indent=1))
EOF
}
