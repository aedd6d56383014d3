# shellcheck shell=bash disable=SC2154 # common.sh sets them
# SPDX-License-Identifier: Apache-2.0
# `refresh-readme`: what the READMEs show was printed by their commands.

help_refresh_readme() {
  cat <<'EOF'
usage: scripts/book refresh-readme [--check] [README.md ...]

Runs the command of every `<!-- run: ... -->` block of README.md,
ch*/README.md, ch*/TROUBLESHOOTING.md and scripts/README.md and puts its output,
this machine and today's date below it. Only blocks of this class of machine are touched: cpu,
or gpu (written `<!-- run class=gpu: ... -->`) where there is one.

  --check    change nothing: run the commands and compare, numbers masked;
             prints a diff and exits 1 where they disagree
EOF
}

verb_refresh_readme() {
  python3 "$ROOT/scripts/refresh_readme.py" "$@"
}
