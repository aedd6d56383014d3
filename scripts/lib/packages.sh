# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Debian packages: what is missing, and getting it. Nothing is asked, and
# nothing is begun that cannot be finished: without root the exact line to
# type is printed and the machine is left as it was.

# Debian's names for the groups given (build, tests).
package_names() {
  local group package _rest
  while read -r group package _rest; do
    if is_one_of "$group" "$@"; then printf '%s\n' "$package"; fi
  done < <(grep -v '^#' "$ROOT/scripts/apt-packages.txt")
}

# Prints "package version" for those of the arguments that are installed.
installed_packages() {
  dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' "$@" \
    2>/dev/null | sed -n 's/^installed //p'
}

missing_packages() {
  local -A have=()
  local name _version
  while read -r name _version; do have[$name]=1; done \
    < <(installed_packages "$@" || true)
  for name in "$@"; do
    [[ -n ${have[$name]:-} ]] || printf '%s\n' "$name"
  done
}

# Sets AS_ROOT to what has to stand before apt-get, or fails.
become_root() {
  AS_ROOT=()
  ((EUID)) || return 0
  command -v sudo >/dev/null || return 1
  if ! sudo -n true 2>/dev/null; then
    # Only a person at a terminal can be asked for a password.
    [[ -t 0 && -t 2 ]] || return 1
    sudo -v || return 1
  fi
  AS_ROOT=(sudo)
}

apt_options() {
  printf '%s\n' -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold
}

# install_packages BUNDLE PACKAGE...   (BUNDLE empty: from the usual sources)
install_packages() {
  local bundle=$1 missing=() options=() sources=() update=0 services=()
  shift
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null
  then
    check_commands_without_apt
    return
  fi
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  mapfile -t options < <(apt_options)
  if ! become_root; then
    note "${#missing[@]} Debian packages are missing, and this needs root." \
      "Nothing was changed. Type this, then the same command again:"
    if [[ -n $bundle ]]; then
      printf 'sudo scripts/book setup --from %q\n' "$bundle" >&2
    else
      printf 'sudo apt-get update && sudo apt-get install -y %s %s\n' \
        --no-install-recommends "${missing[*]}" >&2
    fi
    exit 1
  fi
  if [[ -n $bundle ]]; then
    bundle_sources "$bundle"
    sources=("${BUNDLE_SOURCES[@]}")
  fi
  local apt=("${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive
    NEEDRESTART_SUSPEND=1 LC_ALL=C.UTF-8 apt-get "${sources[@]}")
  mapfile -t services < <(missing_packages "${SERVICES[@]}")
  # A source that cannot be reached (often a foreign one) is no reason to
  # stop: what counts is whether the packages arrive.
  watched 'package lists' "$DEPS/log/apt-update.log" '' \
    "${apt[@]}" -q update || update=$?
  watched "${#missing[@]} Debian packages" "$DEPS/log/apt-install.log" '' \
    "${apt[@]}" install "${options[@]}" "${missing[@]}" || {
    ((update == 0)) || note "the package lists could not be read either"
    exit 1
  }
  disable_services "${services[@]}"
  [[ -z $bundle ]] || "${AS_ROOT[@]}" rm -rf "$DEPS/bundle"
}

# Tests want these as programs. As services of the reader's machine they run
# only if the reader had them before.
readonly SERVICES=(munge slurmctld slurmd)

# Stops and disables those of the arguments that are installed now.
disable_services() {
  local name _version
  command -v systemctl >/dev/null && (($#)) || return 0
  while read -r name _version; do
    "${AS_ROOT[@]}" systemctl --quiet disable --now "$name" 2>/dev/null ||
      note "the service $name was installed and could not be disabled"
  done < <(installed_packages "$@")
}

# Systems that are not Debian: say which commands to install, by any means.
check_commands_without_apt() {
  local missing=() group package rest
  while read -r group package rest; do
    [[ $group == build && $rest == *command:* ]] || continue
    command -v "${rest##*command:}" >/dev/null ||
      missing+=("${rest##*command:}")
  done < <(grep -v '^#' "$ROOT/scripts/apt-packages.txt")
  ((${#missing[@]} == 0)) || die "this is not Debian (no apt-get) and these" \
    "commands are missing: ${missing[*]}. Install them, and the libraries" \
    "that scripts/apt-packages.txt names, with your own package manager."
}

check_cmake() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')
  [[ -n $version ]] || die "cmake is not on the PATH"
  [[ $(printf '3.25\n%s\n' "$version" | sort -V | head -n 1) == 3.25 ]] ||
    die "cmake $version at $(command -v cmake) is too old: 3.25 is needed"
}

# --- an instructor's offline copy ------------------------------------------

# bundle_packages DIR PACKAGE...: fetches the packages and all they depend
# on. apt is told that nothing is installed, so the copy suits the barest
# machine of the same release.
bundle_packages() {
  local dir=$1 apt deb
  shift
  command -v apt-get >/dev/null || die "a bundle can only be made on Debian"
  mkdir -p "$dir/debs/partial" "$DEPS/bundle/lists/partial"
  : >"$DEPS/bundle/status"
  apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -q -y
    -o Debug::NoLocking=1 -o APT::Sandbox::User=root
    -o "Dir::State::status=$DEPS/bundle/status"
    -o "Dir::State::lists=$DEPS/bundle/lists"
    -o "Dir::Cache=$DEPS/bundle" -o "Dir::Cache::archives=$dir/debs")
  watched 'package lists' "$DEPS/log/bundle-update.log" '' \
    "${apt[@]}" update || true
  watched "$# Debian packages and what they need" \
    "$DEPS/log/bundle-debs.log" "$dir/debs" "${apt[@]}" install \
    --download-only --no-install-recommends "$@" || exit 1
  rm -rf "$dir/debs/partial" "$dir/debs/lock" "$DEPS/bundle"
  # The index that turns a folder into an apt source.
  for deb in "$dir"/debs/*.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" \
      "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
  done >"$dir/debs/Packages.new"
  mv "$dir/debs/Packages.new" "$dir/debs/Packages"
}

# Sets BUNDLE_SOURCES: options that make apt see the bundle and nothing else.
bundle_sources() {
  local debs=$1/debs state=$DEPS/bundle
  mkdir -p "$state/lists/partial" "$state/archives/partial"
  printf 'deb [trusted=yes] file:%s ./\n' "${debs// /%20}" \
    >"$state/sources.list"
  BUNDLE_SOURCES=(-o "Dir::Etc::sourcelist=$state/sources.list"
    -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$state/lists"
    -o "Dir::Cache=$state" -o APT::Sandbox::User=root)
}
