#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The house rules that no compiler checks. One function a rule.

  house.py [--root DIR] [--manifest FILE] RULE...     (no RULE: all of them)

Each rule returns the list of its violations, "file:line: what is wrong".
Exit 0: none; 1: some, printed; 2: wrong usage.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

CHAPTERS = ["ch01_intro", "ch02_hardware", "ch03_ddp", "ch04_fsdp", "ch05_zero",
            "ch06_paged_inference", "ch07_router_inference", "ch08_kubernetes",
            "ch09_serving_stack", "ch10_benchmarking", "ch11_federated"]
TOP_LEVEL = set(CHAPTERS) | {
    "CMakeLists.txt", "CMakePresets.json", "LICENSE", "NOTICE", "README.md",
    "common", "scripts", "tests"}
CHAPTER_HEADINGS = ["Run it", "Map", "Read in this order", "Try", "In class",
                    "Limits"]
RULES = {}


def rule(function):
    RULES[function.__name__] = function
    return function


class House:
    def __init__(self, root, manifest):
        self.root = pathlib.Path(root).resolve()
        self.manifest_path = manifest
        self.files = self._files()

    def _files(self):
        """Tracked and new files; in a tree without git, all but outputs."""
        if (self.root / ".git").exists():
            out = subprocess.run(
                ["git", "-C", self.root, "ls-files", "-z", "--cached",
                 "--others", "--exclude-standard"],
                check=True, stdout=subprocess.PIPE).stdout.decode()
            names = [n for n in out.split("\0") if n]
        else:
            names = []
            for folder, folders, files in os.walk(self.root):
                folders[:] = [f for f in folders
                              if f not in ("build", ".deps", "__pycache__")]
                names += [os.path.relpath(os.path.join(folder, f), self.root)
                          for f in files]
        return sorted(n for n in set(names) if (self.root / n).is_file())

    def named(self, *endings):
        return [f for f in self.files if f.endswith(endings)]

    def text(self, name):
        return (self.root / name).read_text(encoding="utf-8")

    def apps(self):
        """Every app that a chapter declares, built on this machine or not."""
        return json.loads(pathlib.Path(self.manifest_path).read_text())["apps"]


def shell_files(house):
    return [f for f in house.files
            if f.startswith(("scripts/", ".ci/", "tests/"))
            and (f.endswith((".sh", ".sbatch")) or
                 re.match(r"#!.*\b(ba)?sh\b",
                          (house.root / f).read_bytes()[:40]
                          .decode("utf-8", "replace")))]


def tables(text):
    """Yields (line number, header cells, [(line number, cells)])."""
    def cells(line):
        return [c.strip() for c in line.strip().strip("|").split("|")]

    lines = text.split("\n")
    at = 0
    while at < len(lines):
        if (lines[at].lstrip().startswith("|") and at + 1 < len(lines)
                and re.match(r"^\s*\|[\s|:-]+\|\s*$", lines[at + 1])):
            rows, row = [], at + 2
            while row < len(lines) and lines[row].lstrip().startswith("|"):
                rows.append((row + 1, cells(lines[row])))
                row += 1
            yield at + 1, cells(lines[at]), rows
            at = row
        else:
            at += 1


@rule
def top_level(house):
    """The top level is fixed: the book prints it."""
    seen = {f.split("/")[0] for f in house.files}
    return [f"{name}: not in the fixed top level" for name in sorted(seen)
            if name not in TOP_LEVEL and not name.startswith(".")]


@rule
def spdx(house):
    """Every source file names its licence in its first three lines."""
    wrong = []
    for name in house.files:
        source = name.endswith((".h", ".cpp", ".cu", ".cuh", ".py", ".cmake",
                                "CMakeLists.txt", ".clang-format", ".sh"))
        if not (source or name in shell_files(house)):
            continue
        head = house.text(name).split("\n")[:3]
        if not any("SPDX-License-Identifier: Apache-2.0" in h for h in head):
            wrong.append(f"{name}:1: no SPDX-License-Identifier line")
    return wrong


@rule
def arrows(house):
    """Chapters include common and earlier chapters; common includes none."""
    wrong = []
    for name in house.named(".h", ".cpp", ".cu", ".cuh"):
        floor = re.match(r"ch(\d\d)_", name)
        if not floor and not name.startswith("common/"):
            continue
        mine = int(floor.group(1)) if floor else 0
        for number, line in enumerate(house.text(name).split("\n"), 1):
            other = re.match(r'\s*#include "ch(\d\d)_', line)
            if other and int(other.group(1)) > mine:
                wrong.append(f"{name}:{number}: includes a later chapter: "
                             f"{line.strip()}")
    return wrong


@rule
def golden(house):
    """The book prints the apps' names: a rename must be seen."""
    listed = [line for line in house.text("tests/golden_apps.txt").split("\n")
              if line and not line.startswith("#")]
    declared = [app["name"] for app in house.apps()]
    wrong = [f"tests/golden_apps.txt: {name} is declared by no chapter"
             for name in listed if name not in declared]
    wrong += [f"tests/golden_apps.txt: {name} is missing" for name in declared
              if name not in listed]
    for name in house.files:  # an app's source that no CMakeLists.txt names
        at = re.match(r"(ch\d\d_\w+)/apps/(\w+)\.cpp$", name)
        if at and at.group(2) not in declared:
            wrong.append(f"{name}: no dai_app({at.group(2)}) declares it")
    return wrong


@rule
def map_rows(house):
    """Each app has one row in its chapter's Map, each row an app."""
    wrong = []
    declared = house.apps()
    for chapter in sorted({app["chapter"] for app in declared}):
        readme = f"{chapter}/README.md"
        if readme not in house.files:
            wrong.append(f"{readme}: missing")
            continue
        rows = {}
        for _, header, body in tables(house.text(readme)):
            if "executable" not in [h.lower() for h in header]:
                continue
            column = [h.lower() for h in header].index("executable")
            core = [h.lower() for h in header].index("core function (file)")
            for number, cells in body:
                if len(cells) != len(header):
                    wrong.append(f"{readme}:{number}: {len(cells)} cells "
                                 f"under {len(header)} headings")
                    continue
                name = re.search(r"`(\w+)`", cells[column])
                if name:
                    rows.setdefault(name.group(1), number)
                wrong += core_function(house, readme, number, cells[core])
        mine = [a["name"] for a in declared if a["chapter"] == chapter]
        wrong += [f"{readme}: no Map row for {name}" for name in mine
                  if name not in rows]
        wrong += [f"{readme}:{number}: {name} is no app of this chapter"
                  for name, number in rows.items() if name not in mine]
        headings = re.findall(r"^## (.+)$", house.text(readme), re.MULTILINE)
        wrong += [f"{readme}: no heading '## {h}'" for h in CHAPTER_HEADINGS
                  if h not in headings]
    return wrong


def core_function(house, readme, number, cell):
    """`function` ([file.h](file.h)): the name must occur in that file."""
    wrong = []
    for name, path in re.findall(r"`(\w+)`\s*\(\[[^]]*\]\(([^)]+)\)\)", cell):
        target = (house.root / readme).parent / path
        if not target.is_file():
            wrong.append(f"{readme}:{number}: {path} does not exist")
        elif not re.search(rf"\b{name}\b", target.read_text()):
            wrong.append(f"{readme}:{number}: {name} is not in {path}")
    if not re.search(r"`\w+`\s*\(\[", cell):
        wrong.append(f"{readme}:{number}: names no core function and file")
    return wrong


@rule
def executed(house):
    """Maps say what ran and how long as tests/executed.json does."""
    sys.path.insert(0, str(house.root / "scripts"))
    import executed as record  # pylint: disable=import-outside-toplevel
    entries = record.read(house.root / "tests/executed.json")
    wrong = []
    for chapter in sorted({app["chapter"] for app in house.apps()}):
        readme = f"{chapter}/README.md"
        text = house.text(readme)
        should = record.with_cells(text, house.apps(), entries)
        wrong += [f"{readme}:{number}: the record says: {new}"
                  for number, (old, new) in enumerate(
                      zip(text.split("\n"), should.split("\n")), 1)
                  if old != new]
    return wrong


@rule
def root_table(house):
    """The root README has a row for each chapter; unbuilt ones say so."""
    text = house.text("README.md")
    wrong = []
    for chapter in CHAPTERS:
        row = [cells for _, _, body in tables(text) for _, cells in body
               if cells and chapter in cells[0]]
        if len(row) != 1:
            wrong.append(f"README.md: {len(row)} table rows for {chapter}")
            continue
        exists = any(f.startswith(chapter + "/") for f in house.files)
        unbuilt = any("not yet built" in cell for cell in row[0])
        if exists == unbuilt:
            wrong.append(f"README.md: {chapter} "
                         + ("is built but marked as not yet built" if exists
                            else "is not there and not marked so"))
    return wrong


@rule
def links(house):
    """Relative links and their anchors lead somewhere."""
    def anchors(text):
        return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-")
                for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}

    wrong = []
    for name in house.named(".md"):
        text = re.sub(r"```.*?```", "", house.text(name), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = ((house.root / name).parent / path).resolve() if path \
                else house.root / name
            if not file.exists():
                wrong.append(f"{name}: broken link {target}")
            elif anchor and anchor not in anchors(file.read_text()):
                wrong.append(f"{name}: no heading for {target}")
    return wrong


@rule
def sh_blocks(house):
    """`sh` blocks parse, and what they call exists."""
    wrong = []
    apps = {app["name"] for app in house.apps()}
    usage = subprocess.run([house.root / "scripts/book", "--help"],
                           stdout=subprocess.PIPE, text=True, check=True)
    verbs = set(re.findall(r"^\s+([a-z-]+)\s", usage.stdout, re.MULTILINE))
    for name in house.named(".md"):
        blocks = re.findall(r"^```sh\n(.*?)^```", house.text(name),
                            re.DOTALL | re.MULTILINE)
        for block in blocks:
            parsed = subprocess.run(["bash", "-n"], input=block, text=True,
                                    stderr=subprocess.PIPE)
            if parsed.returncode != 0:
                wrong.append(f"{name}: {parsed.stderr.strip()}")
            for verb, rest in re.findall(r"scripts/book ([a-z-]+)([^\n|;&]*)",
                                         block):
                if verb not in verbs:
                    wrong.append(f"{name}: scripts/book has no verb {verb}")
                run = re.match(r"\s+(\w+)", rest)
                if verb == "run" and run and run.group(1) not in apps:
                    wrong.append(f"{name}: no app {run.group(1)}")
            for path in re.findall(r"(?<![\w/.-])((?:scripts|tests|ch\d\d_\w+"
                                   r"|common)/[\w./-]+)", block):
                if not (house.root / path).exists():
                    wrong.append(f"{name}: {path} does not exist")
    return wrong


@rule
def cpp_format(house):
    """clang-format, at the version that the lock file pins."""
    pinned = house.root / ".deps/venv/bin/clang-format"
    tool = os.environ.get("DAI_CLANG_FORMAT") or (
        str(pinned) if pinned.exists() else None)
    if tool is None:
        return [".deps/venv/bin/clang-format: missing: run "
                "`scripts/book setup --tests`"]
    sources = house.named(".h", ".cpp", ".cu", ".cuh")
    ran = subprocess.run([tool, "--dry-run", "--Werror", "--style=file"]
                         + sources, cwd=house.root, text=True,
                         stderr=subprocess.PIPE)
    found = re.findall(r"^(\S+?):(\d+):\d+: error", ran.stderr, re.MULTILINE)
    if ran.returncode != 0 and not found:
        return [f"{tool}: {ran.stderr.strip()[:300]}"]
    return [f"{name}:{line}: not formatted" for name, line in found]


@rule
def shell_format(house):
    """shellcheck has nothing to say about our scripts."""
    if shutil.which("shellcheck") is None:
        return ["shellcheck: missing: run `scripts/book setup --tests`"]
    ran = subprocess.run(["shellcheck", "-x", "--format=gcc"]
                         + shell_files(house), cwd=house.root, text=True,
                         stdout=subprocess.PIPE)
    return [line for line in ran.stdout.split("\n") if line]


@rule
def width(house):
    """Listings are printed: 80 columns."""
    wrong = []
    for name in house.named(".h", ".cpp", ".cu", ".cuh"):
        for number, line in enumerate(house.text(name).split("\n"), 1):
            if len(line) > 80 and "http" not in line:
                wrong.append(f"{name}:{number}: {len(line)} columns")
    return wrong


@rule
def small_engine(house):
    """Chapter 6's engine core is read in an evening and knows no tensors."""
    room, most, wrong = "ch06_paged_inference/engine/", 1500, []
    core = ("request", "block_pool", "block_table", "prefix_cache",
            "scheduler", "sampler", "engine")
    code = sum(bool(line.strip()) and not line.lstrip().startswith("//")
               for part in core for end in (".h", ".cpp")
               if room + part + end in house.files
               for line in house.text(room + part + end).split("\n"))
    if code > most:
        wrong.append(f"{room}:1: {code} lines of code in the core, {most} at "
                     "most")
    for name in house.files:
        if not name.startswith(room):
            continue
        for number, line in enumerate(house.text(name).split("\n"), 1):
            if re.match(r"\s*#include .*(torch|ATen|c10|cuda|gguf|http|beast|"
                        "model_file)", line):
                wrong.append(f"{name}:{number}: no part of an engine: "
                             f"{line.strip()}")
    return wrong


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", default=root)
    parser.add_argument("--manifest", help="build/<preset>/manifest.json")
    parser.add_argument("rules", nargs="*", metavar="RULE",
                        help=", ".join(RULES))
    args = parser.parse_args()
    unknown = [name for name in args.rules if name not in RULES]
    if unknown:
        parser.error(f"no rule {unknown[0]}; there are {', '.join(RULES)}")
    house = House(args.root, args.manifest)
    count = 0
    for name in args.rules or RULES:
        for violation in RULES[name](house):
            print(f"{name}: {violation}")
            count += 1
    print(f"{len(args.rules or RULES)} rules, {len(house.files)} files, "
          f"{count} violations")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
