# shellcheck shell=bash disable=SC2154 # common.sh sets them
# SPDX-License-Identifier: Apache-2.0
# `test`, `smoke`, `bench`, `plot`.

help_test() {
  cat <<'EOF'
usage: scripts/book test [--full] [--preset P] [-- CTEST'S OPTIONS]

Sets up (with --tests), builds everything, and runs unit, distributed, smoke
and meta tests. CTest's summary is the last thing printed; its exit code is
returned. JUnit results: build/<preset>/junit.xml.

  --full    the default sizes as well as smoke sizes: all tests labelled
            nightly
example: scripts/book test -- -R launch
EOF
}

verb_test() {
  local full='' extra=()
  take_preset "$@"
  set -- "${REST[@]}"
  while (($#)); do
    case $1 in
      --full) full=1 ;;
      --)
        extra=("${@:2}")
        break
        ;;
      *) refuse_arguments test "$1" ;;
    esac
    shift
  done
  set_up 1 '' ''
  configure
  build_targets
  if [[ -n $full ]]; then
    # The test presets leave the nightly tests out: go round them.
    run_ctest --test-dir "$BUILD" --no-tests=error "${extra[@]}"
  else
    run_ctest --preset "$PRESET" "${extra[@]}"
  fi
}

# Becomes CTest, so that nothing is printed after its summary.
run_ctest() {
  local parallel=()
  [[ -n ${CTEST_PARALLEL_LEVEL:-} ]] || parallel=(-j "$(nproc)")
  cd "$ROOT" || exit 1
  # Tests that call scripts/book must mean the same build.
  export DAI_PRESET=$PRESET
  exec ctest "$@" --output-on-failure "${parallel[@]}" \
    --output-junit "$BUILD/junit.xml" </dev/null
}

help_smoke() {
  cat <<'EOF'
usage: scripts/book smoke [chNN] [--preset P]

Builds the apps and runs their smoke tests only: seconds each, seeded, offline.
example: scripts/book smoke ch01
EOF
}

verb_smoke() {
  local chapter='' names apps=()
  take_preset "$@"
  set -- "${REST[@]}"
  if (($#)) && [[ $1 != -* ]]; then
    chapter=$(chapter_folder "$1")
    shift
  fi
  refuse_arguments smoke "$@"
  set_up '' '' ''
  configure
  names=$(manifest names ${chapter:+"--chapter=$chapter"}) || exit 1
  [[ -n $names ]] || cannot_run_here "no app of ${chapter:-any chapter} builds"
  mapfile -t apps <<<"$names"
  build_targets dai_launch "${apps[@]}"
  run_ctest --preset "$PRESET" -L '^smoke$' \
    ${chapter:+-R "^smoke\\.${chapter%%_*}_"}
}

help_bench() {
  cat <<'EOF'
usage: scripts/book bench [chNN] --json FILE [--parts NAMES]

Runs the comparisons of one chapter or of all (chNN_*/bench/bench.sh or
bench.py) and writes their rows to FILE. Exits 77 where there are none yet.
  --parts NAMES  only these parts of one chapter's bench (ch03's has them);
                 FILE keeps its other rows
example: scripts/book bench ch01 --json ch01.json
EOF
}

verb_bench() {
  local json='' chapter='' program programs=() rows=() name parts=()
  take_preset "$@"
  set -- "${REST[@]}"
  while (($#)); do
    case $1 in
      --json)
        need_value "$@"
        json=$2
        shift
        ;;
      --parts)
        need_value "$@"
        parts=(--parts "$2")
        shift
        ;;
      -*) refuse_arguments bench "$1" ;;
      *) chapter=$(chapter_folder "$1") ;;
    esac
    shift
  done
  [[ -n $json ]] || usage_error "bench needs --json FILE"
  [[ -n $chapter ]] || ((!${#parts[@]})) ||
    usage_error "--parts are those of one chapter: name it"
  for program in "$ROOT/${chapter:-ch*}"/bench/bench.{sh,py} \
    "$ROOT"/ch*/bench/bench.{sh,py}; do
    [[ -x $program && $program == "$ROOT/${chapter:-ch}"* ]] || continue
    is_one_of "$program" "${programs[@]}" || programs+=("$program")
  done
  ((${#programs[@]})) ||
    cannot_run_here "no benches${chapter:+ in $chapter} yet"
  set_up '' 1 ''
  configure
  build_targets
  for program in "${programs[@]}"; do
    name=$(basename "$(dirname "$(dirname "$program")")")
    note "bench of $name"
    mkdir -p "$BUILD/out/bench"
    if ((${#parts[@]})) && [[ -e $json ]]; then
      cp "$json" "$BUILD/out/bench/$name.json"
    fi
    DAI_PRESET=$PRESET "$program" --json "$BUILD/out/bench/$name.json" \
      "${parts[@]}" ||
      die "the bench of $name failed"
    rows+=("$BUILD/out/bench/$name.json")
  done
  python3 - "$json" "${rows[@]}" <<'EOF'
import json, os, sys
rows = []
for path in sys.argv[2:]:
    with open(path, encoding="utf-8") as file:
        rows += json.load(file)["rows"]
with open(sys.argv[1] + ".new", "w", encoding="utf-8") as file:
    json.dump({"schema": 1, "rows": rows}, file, indent=1)
os.replace(sys.argv[1] + ".new", sys.argv[1])
EOF
}

help_plot() {
  cat <<'EOF'
usage: scripts/book plot FILE.json [-o OUT.svg]

Draws what an app wrote with --json: its curves, and where the time went.
Installs the pinned matplotlib into .deps/venv first if it is not there.
OUT is FILE.svg by default.
example: scripts/book run ch01_first_distributed -- --json first.json
         scripts/book plot first.json -o first.svg
EOF
}

verb_plot() {
  local argument file=''
  for argument in "$@"; do [[ ! -f $argument ]] || file=$argument; done
  (($#)) || usage_error "plot needs the file that an app's --json wrote"
  [[ -n $file ]] || usage_error "plot: there is no such file: $*"
  mkdir -p "$DEPS"
  take_setup_lock
  install_packages '' python3-venv
  install_sections '' plot
  exec 9>&-
  # matplotlib's font cache belongs below .deps like everything else.
  MPLCONFIGDIR=$DEPS/matplotlib exec "$VENV/bin/python" \
    "$ROOT/scripts/plot" "$@"
}
