# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# `build`, `list`, `clean`: a thin layer over the CMake presets, which work
# by themselves after set-up.

help_build() {
  cat <<'EOF'
usage: scripts/book build [chNN] [--preset P]

Sets up what is missing, configures, and builds everything or one chapter
into build/<preset>/ (apps and launcher: build/<preset>/bin/).
By hand, after set-up:  cmake --preset cpu && cmake --build --preset cpu
CMAKE_BUILD_PARALLEL_LEVEL sets the number of jobs; by default one a core,
and no more than the memory carries (2 GB a job).
example: scripts/book build ch01
EOF
}

verb_build() {
  local chapter=
  take_preset "$@"
  set -- "${REST[@]}"
  if (($#)) && [[ $1 != -* ]]; then
    chapter=$(chapter_folder "$1")
    shift
  fi
  refuse_arguments build "$@"
  set_up '' '' ''
  configure
  build_targets ${chapter:+"$chapter/all"}
}

# chNN -> chNN_name, or did-you-mean and exit 2.
chapter_folder() {
  local folder chapters=()
  for folder in "$ROOT"/ch[0-9][0-9]*/; do
    [[ ! -f $folder/CMakeLists.txt ]] || chapters+=("$(basename "$folder")")
  done
  for folder in "${chapters[@]}"; do
    if [[ $1 == "$folder" || $1 == "${folder%%_*}" ]]; then
      printf '%s' "$folder"
      return
    fi
  done
  usage_error "no chapter '$1'$(did_you_mean "$1" "${chapters[@]%%_*}");" \
    "there are: ${chapters[*]}"
}

cached_libtorch() {
  sed -n 's/^LIBTORCH:[A-Z]*=//p' "$BUILD/CMakeCache.txt" 2>/dev/null || true
}

# Configures if nobody has, or if LibTorch lies elsewhere than it did. In all
# other cases the build itself sees what changed and configures again.
configure() {
  local arguments=() cached wanted=$LIBTORCH_DIR
  preset_has_torch || wanted=
  cached=$(cached_libtorch)
  [[ -z $wanted ]] || arguments=("-DLIBTORCH=$wanted")
  if [[ -n $wanted && $cached != "$wanted" ]] ||
    [[ -z $wanted && -n $cached && ($cached != "$VENV"/* || ! -d $cached) ]]
  then
    # Paths below the old LibTorch are in the cache too: forget them all.
    arguments+=(--fresh)
  elif [[ -f $BUILD/build.ninja ]]; then
    return
  fi
  find_nvcc
  if [[ $PRESET == cuda && -n $NVCC ]]; then
    export CUDACXX=${CUDACXX:-$NVCC}
  fi
  watched "configure (preset $PRESET)" "$BUILD/configure.log" '' \
    cmake -S "$ROOT" --preset "$PRESET" "${arguments[@]}" || exit 1
  grep -E '^(-- )?not built:' "$BUILD/configure.log" >&2 || true
}

# One job a core, but no more than memory carries: a file with torch's
# headers takes up to 1.5 GB.
jobs() {
  local cores memory_gb
  cores=$(nproc)
  memory_gb=$(awk '/^MemAvailable:/ {print int($2 / 1048576)}' /proc/meminfo)
  ((memory_gb / 2 >= cores)) || cores=$((memory_gb / 2))
  printf '%d' $((cores > 1 ? cores : 1))
}

# build_targets [TARGET...]: nothing given means everything.
build_targets() {
  local start arguments=()
  start=$(now_ms)
  (($# == 0)) || arguments=(--target "$@")
  [[ -n ${CMAKE_BUILD_PARALLEL_LEVEL:-} ]] || arguments+=(-j "$(jobs)")
  (cd "$ROOT" && cmake --build --preset "$PRESET" "${arguments[@]}") >&2 ||
    die "the build failed; what stands above names the file"
  BUILD_SECONDS=$(seconds_since "$start")
  note "built ${*:-everything} (preset $PRESET): $BUILD_SECONDS s"
}

manifest() { python3 "$ROOT/scripts/manifest.py" "$1" "$BUILD" "${@:2}"; }

help_list() {
  cat <<'EOF'
usage: scripts/book list [chNN] [--json] [--preset P]

The apps, chapter by chapter: ranks of the smoke run, what each needs,
whether it is built here. Comes from build/<preset>/manifest.json, which
CMake writes; before the first configure, from the chapters' CMakeLists.txt.
example: scripts/book list ch01 --json
EOF
}

verb_list() {
  local json='' chapter='' argument
  take_preset "$@"
  for argument in "${REST[@]}"; do
    case $argument in
      --json) json=--json ;;
      -*) refuse_arguments list "$argument" ;;
      *) chapter=$(chapter_folder "$argument") ;;
    esac
  done
  manifest list $json ${chapter:+"--chapter=$chapter"}
}

help_clean() {
  cat <<'EOF'
usage: scripts/book clean [--all]

Removes build/, and with --all also .deps/ (LibTorch: fetching it again
takes a minute). Debian packages stay.
EOF
}

verb_clean() {
  local folders=(build) folder size
  case ${1:-} in
    '') ;;
    --all)
      folders+=(.deps)
      shift
      ;;
  esac
  refuse_arguments clean "$@"
  for folder in "${folders[@]}"; do
    if [[ -d $ROOT/$folder ]]; then
      size=$(du -sm "$ROOT/$folder" | cut -f1)
      rm -rf "${ROOT:?}/$folder"
      note "removed $folder/: $size MB freed"
    else
      note "no $folder/ to remove"
    fi
  done
}
