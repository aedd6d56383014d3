#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads and rewrites scripts/deps.lock, the one list of pinned wheels.

The file is made of sections; an entry is `name==version` followed by one
indented line per accepted wheel, `sha256:HEX BYTES FILENAME`. pip is given
these hashes and nothing else, so an index cannot hand out other bytes.

  lock.py check                       parse everything, report what is wrong
  lock.py requirements SECTION...     the sections as a pip requirements file
  lock.py digest SECTION...           one line per section: its fingerprint
  lock.py bytes SECTION...            what this Python would download
  lock.py update                      ask the index again for every hash

`update` keeps the versions written in the file: to move a pin, edit the
version, run update, and review the diff. The index is the one pip uses.
"""
import argparse
import hashlib
import html.parser
import json
import os
import platform
import re
import subprocess
import sys
import urllib.parse
import urllib.request

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "deps.lock")
PYTHONS = ("310", "311", "312", "313")
MACHINES = ("x86_64", "aarch64")
ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


class LockError(Exception):
    """The lock file, or what the index answered, cannot be used."""


class Wheel:
    """One accepted file of an entry."""

    def __init__(self, sha256, size, filename):
        self.sha256, self.size, self.filename = sha256, size, filename

    def fits(self, python, machine):
        """True if CPython `python` ("311") on `machine` can install it."""
        match = re.fullmatch(
            r".+?-[^-]+(?:-\d[^-]*)?-([^-]+)-([^-]+)-([^-]+)\.whl",
            self.filename)
        if not match:
            return False
        tags, abis, platforms = (part.split(".") for part in match.groups())
        if not any(p == "any" or p.endswith("_" + machine)
                   for p in platforms if p == "any" or "linux" in p):
            return False
        # musl wheels cannot run on glibc, and 3.13's free-threaded ABI
        # (cp313t) is another interpreter.
        if all("musllinux" in p for p in platforms):
            return False
        if "abi3" in abis:
            floor = min(int(t[3:]) for t in tags if t.startswith("cp3"))
            return floor <= int(python[1:])
        if "none" in abis:
            return any(t in ("py3", "py" + python, "cp" + python)
                       for t in tags)
        return "cp" + python in tags and "cp" + python in abis


class Entry:
    """A pinned package."""

    def __init__(self, name, version):
        self.name, self.version, self.wheels = name, version, []

    def wheel_for(self, python, machine):
        for wheel in self.wheels:
            if wheel.fits(python, machine):
                return wheel
        return None


def read(path=PATH):
    """The file as (header lines, {section: (comment lines, [Entry])})."""
    header, sections, current = [], {}, None
    with open(path, encoding="utf-8") as file:
        for number, raw in enumerate(file, 1):
            line = raw.rstrip("\n")
            where = f"{os.path.basename(path)}:{number}"
            if not line.strip():
                continue
            if line.startswith("#"):
                (header if current is None else current[0]).append(line)
            elif match := re.fullmatch(r"\[([a-z0-9-]+)\]", line):
                if match[1] in sections:
                    raise LockError(f"{where}: [{match[1]}] appears twice")
                current = sections[match[1]] = ([], [])
            elif current is None:
                raise LockError(f"{where}: entry before the first [section]")
            elif match := re.fullmatch(r"([A-Za-z0-9_.-]+)==([^\s;]+)", line):
                current[1].append(Entry(match[1], match[2]))
            elif match := re.fullmatch(
                    r"  sha256:([0-9a-f]{64}) (\d+) (\S+\.whl)", line):
                if not current[1]:
                    raise LockError(f"{where}: hash without an entry")
                current[1][-1].wheels.append(
                    Wheel(match[1], int(match[2]), match[3]))
            else:
                raise LockError(f"{where}: cannot read '{line}'")
    return header, sections


def write(header, sections, path=PATH):
    out = list(header)
    for name, (comments, entries) in sections.items():
        out += ["", f"[{name}]"] + comments
        for entry in entries:
            out.append(f"{entry.name}=={entry.version}")
            out += [f"  sha256:{w.sha256} {w.size} {w.filename}"
                    for w in entry.wheels]
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")
    os.replace(path + ".new", path)


def pick(sections, names):
    for name in names:
        if name not in sections:
            raise LockError(f"no section [{name}]; there are: "
                            + " ".join(sections))
        yield name, sections[name][1]


def requirements(entries):
    lines = []
    for entry in entries:
        hashes = "".join(f" --hash=sha256:{w.sha256}" for w in entry.wheels)
        lines.append(f"{entry.name}=={entry.version}{hashes}")
    return lines


def digest(entries):
    text = "\n".join(sorted(requirements(entries)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def this_python():
    return "".join(platform.python_version_tuple()[:2])


def index_url():
    """The index pip is set up to use, without writing a host down here."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    pip = [sys.executable, "-m", "pip"]
    asked = subprocess.run(pip + ["config", "get", "global.index-url"],
                           capture_output=True, text=True, check=False)
    if asked.returncode == 0 and asked.stdout.strip():
        return asked.stdout.strip()
    asked = subprocess.run(
        [sys.executable, "-c",
         "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"],
        capture_output=True, text=True, check=False)
    if asked.returncode:
        raise LockError("cannot ask pip for its index (is pip installed for "
                        f"{sys.executable}?)")
    return asked.stdout.strip()


class Anchors(html.parser.HTMLParser):
    """File links of an index page in HTML."""

    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attrs):
        if tag == "a" and (href := dict(attrs).get("href")):
            self.links.append(href)


def index_files(index, name):
    """[(filename, sha256, size or None, url)] that the index lists."""
    page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    request = urllib.request.Request(page, headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=60) as answer:
        body = answer.read()
        is_json = "json" in answer.headers.get("Content-Type", "")
    if is_json:
        return [(f["filename"], f["hashes"].get("sha256"), f.get("size"),
                 urllib.parse.urljoin(page, f["url"]))
                for f in json.loads(body)["files"]]
    parser = Anchors()
    parser.feed(body.decode())
    found = []
    for link in parser.links:
        url, _, fragment = urllib.parse.urljoin(page, link).partition("#")
        filename = urllib.parse.unquote(url.rsplit("/", 1)[-1])
        sha256 = re.search(r"sha256=([0-9a-f]{64})", fragment)
        found.append((filename, sha256 and sha256[1], None, url))
    return found


def remote_size(url):
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(answer.headers["Content-Length"])


def update_entry(index, entry):
    """Replaces the entry's wheels by what the index lists for its version."""
    stem = re.sub(r"[-_.]+", "_", entry.name).lower()
    found = []
    for filename, sha256, size, url in index_files(index, entry.name):
        parts = filename.split("-")
        if not filename.endswith(".whl") or len(parts) < 5 \
                or re.sub(r"[-_.]+", "_", parts[0]).lower() != stem \
                or parts[1] != entry.version:
            continue
        wheel = Wheel(sha256, size, filename)
        if not any(wheel.fits(p, m) for p in PYTHONS for m in MACHINES):
            continue
        if not sha256:
            raise LockError(f"the index gives no sha256 for {filename}")
        if size is None:
            wheel.size = remote_size(url)
        found.append(wheel)
    entry.wheels = sorted(found, key=lambda wheel: wheel.filename)


def problems(sections):
    """Everything that would make an install fail, as lines."""
    found = []
    for section, (_, entries) in sections.items():
        for entry in entries:
            gaps = [f"cp{p}-{m}" for p in PYTHONS for m in MACHINES
                    if not entry.wheel_for(p, m)]
            if gaps:
                found.append(f"[{section}] {entry.name}=={entry.version}: "
                             f"no wheel for {' '.join(gaps)}")
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=["check", "requirements", "digest",
                                           "bytes", "version", "update"])
    parser.add_argument("names", nargs="*", metavar="SECTION")
    parser.add_argument("--file", default=PATH, help="another lock file")
    args = parser.parse_args()
    header, sections = read(args.file)
    if args.action == "check":
        found = problems(sections)
        print("\n".join(found) or
              f"{sum(len(e) for _, e in sections.values())} entries in "
              f"{len(sections)} sections, all hashed")
        return 1 if found else 0
    if args.action == "update":
        index = index_url()
        for name, entries in pick(sections, args.names or list(sections)):
            for entry in entries:
                update_entry(index, entry)
                print(f"[{name}] {entry.name}=={entry.version}: "
                      f"{len(entry.wheels)} wheels")
        if found := problems(sections):
            raise LockError("not written:\n  " + "\n  ".join(found))
        write(header, sections, args.file)
        return 0
    if args.action == "version":  # `version PACKAGE`: the pinned version
        for _, entries in sections.values():
            for entry in entries:
                if entry.name in args.names:
                    print(entry.version)
                    return 0
        raise LockError(f"no package {' '.join(args.names)}")
    total = 0
    for name, entries in pick(sections, args.names):
        if args.action == "requirements":
            for line in requirements(entries):
                print(line)
        elif args.action == "digest":
            print(f"{name} {digest(entries)}")
        else:
            for entry in entries:
                wheel = entry.wheel_for(this_python(), platform.machine())
                if wheel is None:
                    raise LockError(
                        f"{entry.name}=={entry.version} has no wheel for "
                        f"Python {platform.python_version()} on "
                        f"{platform.machine()} (it has "
                        f"{', '.join('3.' + p[1:] for p in PYTHONS)} on "
                        f"{' and '.join(MACHINES)})")
                total += wheel.size
    if args.action == "bytes":
        print(total)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LockError, OSError) as error:
        print(f"lock.py: {error}", file=sys.stderr)
        sys.exit(1)
