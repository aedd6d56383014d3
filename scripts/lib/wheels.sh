# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The venv .deps/venv and the lock file's sections in it. A section counts
# as installed only when its stamp, written after pip succeeded, holds the
# fingerprint of what the lock file says now.

lock() { python3 "$ROOT/scripts/lock.py" "$@"; }

venv_works() {
  [[ -x $VENV/bin/pip && -x $VENV/bin/python ]] &&
    "$VENV/bin/python" -c '' 2>/dev/null
}

make_venv() {
  ! venv_works || return 0
  # What is there is broken (a Python that went away, an interrupted run).
  rm -rf "$VENV"
  watched 'Python venv' "$DEPS/log/venv.log" '' \
    python3 -m venv "$VENV" || {
    rm -rf "$VENV"
    die "no venv: python3-venv is needed for $(python3 --version)"
  }
}

# Prints those of the sections given that are not installed as locked.
missing_sections() {
  local section print
  lock digest "$@" | while read -r section print; do
    [[ -x $VENV/bin/python && -f $VENV/stamps/$section &&
      $(<"$VENV/stamps/$section") == "$print" ]] || printf '%s\n' "$section"
  done
}

check_disk() {
  local need=$1 where=$2 free
  free=$(($(df -Pk "$where" | awk 'NR == 2 {print $4}') * 1024))
  ((free >= need)) || die "$(megabytes "$need") are needed in $where," \
    "$(megabytes "$free") are free"
}

# install_sections BUNDLE SECTION...   (BUNDLE empty: from pip's index)
install_sections() {
  local bundle=$1 text missing=() section bytes options=()
  shift
  text=$(missing_sections "$@") || exit 1
  [[ -n $text ]] || return 0
  mapfile -t missing <<<"$text"
  # Ask first: an unsupported Python is to be named before anything is made.
  bytes=$(lock bytes "${missing[@]}") || exit 1
  mkdir -p "$DEPS/tmp"
  make_venv
  # A wheel and what it unpacks to lie there together for a moment.
  check_disk $((bytes * 3)) "$DEPS"
  options=(--no-deps --require-hashes --only-binary :all: --no-compile
    --no-input --disable-pip-version-check --progress-bar off)
  [[ -n ${PIP_CACHE_DIR:-} ]] || options+=(--no-cache-dir)
  [[ -z $bundle ]] || options+=(--no-index --find-links "$bundle/wheels")
  mkdir -p "$VENV/stamps"
  for section in "${missing[@]}"; do
    bytes=$(lock bytes "$section")
    lock requirements "$section" >"$DEPS/tmp/$section.txt"
    rm -f "$VENV/stamps/$section"
    if [[ -s $DEPS/tmp/$section.txt ]]; then
      # pip unpacks in TMPDIR: /tmp is often memory, and too small for torch.
      watched "$section ($(megabytes "$bytes") of wheels)" \
        "$DEPS/log/pip-$section.log" "$DEPS" env "TMPDIR=$DEPS/tmp" \
        "$VENV/bin/python" -m pip install "${options[@]}" \
        -r "$DEPS/tmp/$section.txt" || exit 1
    fi
    lock digest "$section" | cut -d' ' -f2 >"$VENV/stamps/$section.new"
    mv "$VENV/stamps/$section.new" "$VENV/stamps/$section"
  done
  rm -rf "$DEPS/tmp"
}

# bundle_sections DIR SECTION...
bundle_sections() {
  local dir=$1 section
  shift
  mkdir -p "$dir/wheels" "$DEPS/tmp"
  for section in "$@"; do
    lock requirements "$section" >"$DEPS/tmp/$section.txt"
    [[ -s $DEPS/tmp/$section.txt ]] || continue
    watched "wheels of $section" "$DEPS/log/bundle-$section.log" \
      "$dir/wheels" env "TMPDIR=$DEPS/tmp" "$VENV/bin/python" -m pip \
      download --no-deps --require-hashes --only-binary :all: --no-input \
      --no-cache-dir --disable-pip-version-check --progress-bar off \
      -d "$dir/wheels" -r "$DEPS/tmp/$section.txt" || exit 1
  done
  rm -rf "$DEPS/tmp"
}

# --- an existing LibTorch --------------------------------------------------

# Prints the folder with lib/ and include/ that a LIBTORCH value means.
libtorch_folder() {
  local candidate
  for candidate in "$1" "$1/torch" "$1/libtorch"; do
    if [[ -f $candidate/lib/libtorch_cpu.so &&
      -d $candidate/include/torch ]]; then
      (cd "$candidate" && pwd)
      return
    fi
  done
  return 1
}

# Sets LIBTORCH_DIR to an existing LibTorch, or to nothing for the wheel.
# The choice is kept in .deps/libtorch, so that later commands agree with the
# one that configured; LIBTORCH= (empty) goes back to the wheel.
choose_libtorch() {
  LIBTORCH_DIR=
  if [[ -n ${LIBTORCH:-} ]]; then
    LIBTORCH_DIR=$(libtorch_folder "$LIBTORCH") ||
      usage_error "LIBTORCH=$LIBTORCH holds no LibTorch" \
        "(lib/libtorch_cpu.so and include/torch are looked for)"
  elif [[ -z ${LIBTORCH+set} && -f $DEPS/libtorch ]]; then
    LIBTORCH_DIR=$(libtorch_folder "$(<"$DEPS/libtorch")") ||
      usage_error "the LibTorch chosen before, $(<"$DEPS/libtorch"), is gone:" \
        "give LIBTORCH=/path, or LIBTORCH= for the wheel"
  fi
}

keep_libtorch() {
  if [[ -n $LIBTORCH_DIR ]]; then
    printf '%s\n' "$LIBTORCH_DIR" >"$DEPS/libtorch"
    note "LibTorch: $LIBTORCH_DIR (kept in .deps/libtorch;" \
      "LIBTORCH= goes back to the wheel)"
  else
    rm -f "$DEPS/libtorch"
  fi
}
