# shellcheck shell=bash disable=SC2154 # common.sh sets them
# SPDX-License-Identifier: Apache-2.0
# `tour`: from a bare machine to the chapters' own proofs, in one command.

help_tour() {
  cat <<'EOF'
usage: scripts/book tour [chNN] [--preset P]

Sets up what is missing, builds only what the stops need, runs them, and
ends in a table of what each one proved. The stops are listed in
scripts/tour.tsv; what each one printed and measured stays in
build/<preset>/out/tour/.

Exit code: 0 every stop proved what it says, 1 one did not, 77 none could
run here.
example: scripts/book tour ch01
EOF
}

verb_tour() {
  local chapter='' start stop_start
  take_preset "$@"
  set -- "${REST[@]}"
  if (($#)) && [[ $1 != -* ]]; then
    chapter=$(chapter_folder "$1")
    shift
  fi
  refuse_arguments tour "$@"
  start=$(now_ms)
  read_stops "${chapter%%_*}"
  set_up '' '' ''
  configure
  build_stops
  stop_start=$(now_ms)
  run_stops
  show_proofs "$(seconds_since "$stop_start")" "$(seconds_since "$start")"
}

# Sets STOPS: "chapter<TAB>seconds<TAB>title<TAB>run's arguments" each.
read_stops() {
  STOPS=()
  local chapter rest
  while IFS=$'\t' read -r chapter rest; do
    [[ -z $chapter || $chapter == '#'* ]] && continue
    [[ -n $1 && $chapter != "$1" ]] || STOPS+=("$chapter"$'\t'"$rest")
  done <"$ROOT/scripts/tour.tsv"
  ((${#STOPS[@]})) || usage_error "the tour has no stop in ${1:-it}"
}

stop_app() {
  local words
  read -ra words <<<"$1"
  printf '%s' "${words[0]}"
}

build_stops() {
  local stop _chapter _seconds _title command targets=(dai_launch) code
  for stop in "${STOPS[@]}"; do
    IFS=$'\t' read -r _chapter _seconds _title command <<<"$stop"
    code=0
    manifest ranks "$(stop_app "$command")" >/dev/null || code=$?
    # 77: cannot be built on this machine; the stop will say so in the table.
    case $code in
      0) targets+=("$(stop_app "$command")") ;;
      77) ;;
      *) die "scripts/tour.tsv names an app that is not there" ;;
    esac
  done
  build_targets "${targets[@]}"
}

run_stops() {
  local out=build/$PRESET/out/tour number=0 stop chapter seconds title command
  local words start code
  cd "$ROOT" || exit 1
  rm -rf "$out"
  mkdir -p "$out"
  for stop in "${STOPS[@]}"; do
    IFS=$'\t' read -r chapter seconds title command <<<"$stop"
    number=$((number + 1))
    read -ra words <<<"$command"
    is_one_of -- "${words[@]}" || words+=(--)
    printf '\n== stop %d of %d, %s: %s (about %s s) ==\n' "$number" \
      "${#STOPS[@]}" "$chapter" "$title" "$seconds"
    start=$(now_ms) code=0
    DAI_NO_BUILD=1 "$ROOT/scripts/book" run --preset "$PRESET" \
      "${words[@]}" --json "$out/$number.json" </dev/null 2>&1 |
      tee "$out/$number.log" || code=$?
    printf '%s\t%s\t%s\t%d\t%s\t%d\n' "$number" "$chapter" "$title" \
      "$code" "$(seconds_since "$start")" "$seconds" >>"$out/stops.tsv"
  done
}

show_proofs() {
  local code=0
  printf '\n'
  python3 "$ROOT/scripts/proofs.py" "$BUILD/out/tour" || code=$?
  printf '\nset-up %s s, build %s s, stops %s s: %s s in all\n' \
    "$SETUP_SECONDS" "$BUILD_SECONDS" "$1" "$2"
  return "$code"
}
