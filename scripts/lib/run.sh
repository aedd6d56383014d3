# shellcheck shell=bash disable=SC2154 # common.sh sets them
# SPDX-License-Identifier: Apache-2.0
# `run`: one app on N ranks under the launcher the reader names. The command
# is printed as it could be typed, then this process becomes it.

help_run() {
  cat <<'EOF'
usage: scripts/book run APP [-n RANKS] [--nodes N | --hosts A,B |
                        --hostfile FILE] [--launcher L] [--no-preflight]
                        [--preset P] [--dry-run] [-- APP'S OPTIONS]

Builds APP if it is stale, prints the true command and becomes it.

  -n RANKS       ranks, of each node where there are several (default: as many
                 as the app's smoke run has)
  --nodes N      dai: N launchers on this machine, as N hosts would run them;
                 vcluster: N nodes in network namespaces; srun: N nodes
  --hosts A,B    one launcher on each host by ssh (scripts/on_hosts); mpirun:
                 its --host
  --hostfile F   the same with a host a line: `A slots=2`
  --no-preflight on several hosts: not ch01_selfcheck first
  --launcher L   dai       our own dai_launch (the default)
                 mpirun    Open MPI
                 torchrun  PyTorch's, out of .deps/venv
                 srun      Slurm, which places the ranks
                 vcluster  dai_launch on each node of scripts/vcluster
                 none      the program alone, one rank
  --dry-run      print the command and stop

Exit code: the app's (1 failed, 2 wrong usage, 77 cannot run here); torchrun
answers 1 whenever a rank did not end with 0.
example: scripts/book run ch01_first_distributed -n 2 -- --preset smoke
EOF
}

readonly LAUNCHERS=(dai mpirun torchrun srun vcluster none)
readonly APP_PRESETS=(smoke laptop gpu24 gpu80 node8x2) # common/options.cpp

verb_run() {
  local app='' ranks='' nodes=1 hosts='' launcher=dai preset='' dry='' args=()
  local smoke_ranks
  PREFLIGHT=1
  while (($#)); do
    case $1 in
      -n | --nodes | --hosts | --hostfile | --launcher | --preset)
        need_value "$@"
        case $1 in
          -n) ranks=$2 ;;
          --hosts | --hostfile)
            [[ -z $hosts ]] || usage_error "--hosts or --hostfile, once"
            hosts="$1 $2"
            ;;
          --nodes) nodes=$2 ;;
          --launcher) launcher=$2 ;;
          --preset) preset=$2 ;;
        esac
        shift
        ;;
      --dry-run) dry=1 ;;
      --no-preflight) PREFLIGHT='' ;;
      --)
        args=("${@:2}")
        break
        ;;
      -*)
        usage_error "run does not take '$1'; the app's own options come" \
          "after --: scripts/book run ${app:-APP} -- $1"
        ;;
      *)
        [[ -z $app ]] ||
          usage_error "run takes one app, got '$app' and '$1'" \
            "(the app's own options come after --)"
        app=$1
        ;;
    esac
    shift
  done
  [[ -n $app ]] || usage_error "run needs an app; scripts/book list"
  check_count -n "${ranks:-1}"
  check_count --nodes "$nodes"
  check_launcher "$launcher" "$nodes" "${ranks:-1}" "$hosts"
  if is_one_of "$preset" "${APP_PRESETS[@]}"; then
    usage_error "--preset is the build's (${PRESETS[*]}); the app's sizes" \
      "come after --: scripts/book run $app -- --preset $preset"
  fi
  choose_preset "$preset"
  smoke_ranks=$(manifest ranks "$app") || exit
  [[ $launcher != none ]] || ranks=1
  # A hostfile says itself how many ranks its hosts have.
  GIVEN_RANKS=$ranks
  ranks=${ranks:-$smoke_ranks}
  if [[ -z $dry ]]; then
    build_if_stale "$app" "$launcher" "$hosts"
    launcher_is_there "$launcher"
  fi
  if [[ $launcher == dai ]] && ((nodes > 1)); then
    run_nodes "$app" "$ranks" "$nodes" "$dry" "${args[@]}"
  else
    run_preflight "$app" "$launcher" "$ranks" "$nodes" "$hosts" "$dry"
    launch_command "$launcher" "$app" "$ranks" "$nodes" "$hosts" "${args[@]}"
    print_command "${COMMAND[@]}"
    [[ -n $dry ]] || exec "${COMMAND[@]}"
  fi
}

check_count() {
  [[ $2 =~ ^[1-9][0-9]{0,3}$ && $2 -le 4096 ]] ||
    usage_error "$1 takes a number from 1 to 4096, got '$2'"
}

check_launcher() {
  is_one_of "$1" "${LAUNCHERS[@]}" ||
    usage_error "no launcher '$1'$(did_you_mean "$1" "${LAUNCHERS[@]}");" \
      "there are: ${LAUNCHERS[*]}"
  is_one_of "$1" dai srun vcluster || [[ $2 == 1 ]] ||
    usage_error "--nodes goes with --launcher dai, srun and vcluster;" \
      "$1 has its own way"
  is_one_of "$1" dai mpirun || [[ -z $4 ]] ||
    usage_error "${4%% *} goes with --launcher dai and mpirun, not $1"
  [[ -z $4 || $2 == 1 ]] ||
    usage_error "${4%% *} says how many nodes there are: leave out --nodes"
  [[ $1 != none || $3 == 1 ]] ||
    usage_error "--launcher none starts one rank, got -n $3"
}

# One line where the app was built before, the whole build where it was not.
# DAI_NO_BUILD=1 trusts what is there (tests, which must not build).
build_if_stale() {
  local targets=("$1")
  [[ -z ${DAI_NO_BUILD:-} ]] || return 0
  if is_one_of "$2" dai vcluster; then targets+=(dai_launch); fi
  if [[ -n $3 || $2 == srun ]]; then targets+=(ch01_selfcheck); fi
  set_up '' '' ''
  configure
  # The first configure may have learnt that the app cannot be built here.
  manifest ranks "$1" >/dev/null || exit
  if [[ -x $BUILD/bin/$1 ]]; then
    watched "build $1" "$BUILD/build.log" '' \
      ninja -C "$BUILD" "${targets[@]}" || exit 1
  else
    build_targets "${targets[@]}"
  fi
}

launcher_is_there() {
  case $1 in
    mpirun)
      command -v mpirun >/dev/null || cannot_run_here \
        "mpirun is not installed; this gets it: scripts/book setup"
      ;;
    torchrun)
      [[ -z $(missing_sections libtorch-cpu libtorch-cuda torchrun) ]] ||
        cannot_run_here "torchrun is not installed; this gets it:" \
          "scripts/book setup --tests"
      ;;
    srun)
      command -v srun >/dev/null || cannot_run_here "srun is not installed:" \
        "this is no Slurm machine; scripts/slurm_lab makes one of it, after" \
        "scripts/book setup --tests"
      ;;
  esac
}

# Threads a rank, for launchers that do not decide it themselves.
threads_per_rank() {
  local threads=$(($(nproc) / $1))
  printf '%d' $((threads > 1 ? threads : 1))
}

# Several machines are looked over first, by the launcher that will use them.
# With --hosts and no mpirun scripts/on_hosts does it.
run_preflight() {
  local app=$1 launcher=$2 ranks=$3 nodes=$4 hosts=$5 dry=$6 code=0
  [[ -n $PREFLIGHT && $app != ch01_selfcheck ]] || return 0
  [[ $launcher == mpirun && -n $hosts ]] ||
    [[ $launcher == srun && $nodes != 1 ]] || return 0
  launch_command "$launcher" ch01_selfcheck "$ranks" "$nodes" "$hosts" --smoke
  print_command "${COMMAND[@]}"
  [[ -z $dry ]] || return 0
  "${COMMAND[@]}" || code=$?
  ((code == 0)) || {
    note "the preflight failed: $app was not started (--no-preflight would)"
    exit "$code"
  }
}

# Sets COMMAND to the words that start APP on RANKS ranks of each node.
launch_command() {
  local launcher=$1 app=$2 ranks=$3 nodes=$4 hosts=$5 program
  local environment=() placed=() list cluster
  shift 5
  program=$(shown "$BUILD/bin/$app")
  case $launcher in
    dai)
      if [[ -n $hosts ]]; then
        [[ -n $PREFLIGHT ]] || placed+=(--no-preflight)
        [[ $hosts == --hostfile* && -z $GIVEN_RANKS ]] || placed+=(-n "$ranks")
        COMMAND=("$(shown "$ROOT/scripts/on_hosts")" "${hosts%% *}"
          "${hosts#* }" "${placed[@]}" "$(shown "$BUILD/bin")" "$app" "$@")
        return
      fi
      COMMAND=("$(shown "$BUILD/bin/dai_launch")" --standalone
        --nproc-per-node "$ranks" "$program" "$@")
      ;;
    torchrun)
      [[ -n ${OMP_NUM_THREADS:-} ]] ||
        environment=(env "OMP_NUM_THREADS=$(threads_per_rank "$ranks")")
      COMMAND=("${environment[@]}" "$(shown "$VENV/bin/torchrun")" --no-python
        --standalone --nproc-per-node "$ranks" "$program" "$@")
      ;;
    mpirun)
      ((EUID)) || environment=(OMPI_ALLOW_RUN_AS_ROOT=1
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
      [[ -n ${OMP_NUM_THREADS:-} ]] ||
        environment+=("OMP_NUM_THREADS=$(threads_per_rank "$ranks")")
      # Several ranks may share a core. Of several hosts it is said how many
      # each takes; Open MPI 5 would put all of them on the first one.
      placed=(--oversubscribe -n "$ranks")
      if [[ -n $hosts ]]; then
        placed=(-n "$ranks")
        [[ $hosts == --hosts* || -n $GIVEN_RANKS ]] || placed=()
        list=$("$ROOT/scripts/on_hosts" --list "${hosts%% *}" "${hosts#* }" \
          "${placed[@]}") || exit
        # Ranks of several hosts must be told where rank 0 is.
        placed=(--host "$list" -x "MASTER_ADDR=${list%%:*}"
          -x MASTER_PORT=29500 -x OMP_NUM_THREADS)
      fi
      COMMAND=(env "${environment[@]}" mpirun "${placed[@]}"
        "$program" "$@")
      ((${#environment[@]})) || COMMAND=("${COMMAND[@]:1}")
      ;;
    srun)
      [[ " $* " != *" --backend"[\ =]"mpi "* ]] || placed=(--mpi=pmix)
      [[ -n ${OMP_NUM_THREADS:-} ]] ||
        environment=(env "OMP_NUM_THREADS=$(threads_per_rank "$ranks")")
      COMMAND=("${environment[@]}" srun "${placed[@]}" -N "$nodes"
        --ntasks-per-node "$ranks" --kill-on-bad-exit=1 "$program" "$@")
      ;;
    vcluster)
      [[ -n ${OMP_NUM_THREADS:-} ]] || environment=(env
        "OMP_NUM_THREADS=$(threads_per_rank $((nodes * ranks)))")
      cluster=$(shown "$ROOT/scripts/vcluster")
      COMMAND=("${environment[@]}" "$cluster" -N "$nodes" "$cluster" each
        "$(shown "$BUILD/bin/dai_launch")" --nnodes "$nodes" --node-rank '{}'
        --nproc-per-node "$ranks" --rdzv-endpoint '{first}:29400' "$program"
        "$@")
      ;;
    none) COMMAND=("$program" "$@") ;;
  esac
}

print_command() {
  local line='' word
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
      line+=" $word"
    else
      line+=" ${word@Q}"
    fi
  done
  printf '+%s\n' "$line" >&2
}

free_port() {
  python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# N launchers that meet at one address, as on N hosts. The first one that
# fails ends the others; of several codes 1 beats 2 beats 77 beats 0.
run_nodes() {
  local app=$1 ranks=$2 nodes=$3 dry=$4 endpoint node code worst=0
  local pids=() running environment=()
  shift 4
  # Each launcher believes it has this machine's cores to itself.
  [[ -n ${OMP_NUM_THREADS:-} ]] || environment=(env
    "OMP_NUM_THREADS=$(threads_per_rank $((nodes * ranks)))")
  endpoint=127.0.0.1:$(free_port)
  for ((node = 0; node < nodes; node++)); do
    COMMAND=("${environment[@]}"
      "$(shown "$BUILD/bin/dai_launch")" --nnodes "$nodes"
      --node-rank "$node" --nproc-per-node "$ranks"
      --rdzv-endpoint "$endpoint" "$(shown "$BUILD/bin/$app")" "$@")
    print_command "${COMMAND[@]}"
    [[ -z $dry ]] || continue
    "${COMMAND[@]}" </dev/null &
    pids+=($!)
  done
  [[ -z $dry ]] || return 0
  trap 'kill "${pids[@]}" 2>/dev/null || true' INT TERM
  for ((running = nodes; running > 0; running--)); do
    code=0
    wait -n || code=$?
    worst=$(worse_code "$worst" "$code")
    ((code == 0)) || kill "${pids[@]}" 2>/dev/null || true
  done
  wait
  return "$worst"
}

worse_code() {
  local code other
  for code in 1 2 77; do
    for other in "$@"; do
      # A signal (above 128) and any unknown code count as a failure.
      case $other in 0 | 2 | 77) ;; *) other=1 ;; esac
      if ((other == code)); then
        printf '%d' "$code"
        return
      fi
    done
  done
  printf '0'
}
