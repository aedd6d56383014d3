#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What ran where and how long, kept by a program: tests/executed.json.

  executed.py record --junit build/cpu/junit.xml --manifest .../manifest.json
      adds this machine's passes and brings the chapters' Maps up to date
  executed.py maps --manifest build/cpu/manifest.json
      the second half alone

An entry is (app, path): cpu, cuda (one GPU), nccl-2 (two GPUs and NCCL). The
newest run of a pair replaces the older one; its seconds are those of
smoke.APP and, where a run included it, of full.APP (the default sizes). A
Map's "needs" cell names each path of the app, with "never executed" behind
those that no machine has run; its "seconds" cell is the CPU's.
"""
import argparse
import datetime
import json
import math
import pathlib
import re
import subprocess
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILE = ROOT / "tests/executed.json"


def read(path=FILE):
    return json.loads(path.read_text())["entries"]


def needs_cell(app, entries):
    """The text of the Map's "needs" column for one app of the manifest."""
    ran = {(entry["app"], entry["path"]) for entry in entries}
    return ", ".join(path if (app["name"], path) in ran
                     else f"{path} (never executed)" for path in app["paths"])


def seconds_cell(app, entries):
    """The text of its "seconds" column: "2 (smoke), 40 (laptop)"."""
    for entry in entries:
        if (entry["app"], entry["path"]) == (app["name"], "cpu"):
            return ", ".join(f"{entry['seconds'][size]} ({size})"
                             for size in ("smoke", "laptop")
                             if size in entry["seconds"])
    return "never executed"


CELLS = {"needs": needs_cell, "seconds": seconds_cell}


def with_cells(text, apps, entries):
    """A README's text with the cells of its Map's rows as they should be."""
    lines, header = text.split("\n"), []
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
        for app in apps if line.startswith("|") else ():
            if f"`{app['name']}`" in line and "needs" in header:
                for column, cell in CELLS.items():
                    cells[header.index(column)] = cell(app, entries)
                lines[number] = "| " + " | ".join(cells) + " |"
    return "\n".join(lines)


def update_maps(manifest):
    apps = json.loads(pathlib.Path(manifest).read_text())["apps"]
    for chapter in sorted({app["chapter"] for app in apps}):
        readme = ROOT / chapter / "README.md"
        old = readme.read_text()
        new = with_cells(old, apps, read())
        if new != old:
            readme.write_text(new)
            print(f"{readme.relative_to(ROOT)}: Map brought up to date")


def gpus():
    try:
        out = subprocess.run(["nvidia-smi", "--query-gpu=name",
                              "--format=csv,noheader"],
                             stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.DEVNULL, check=True).stdout
        return [line for line in out.split("\n") if line]
    except (OSError, subprocess.CalledProcessError):
        return []


def cpu_model():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else "unknown CPU"


def git(*words):
    return subprocess.run(["git", "-C", ROOT, *words], text=True, check=True,
                          stdout=subprocess.PIPE).stdout.strip()


def record(junit):
    found = gpus()
    # The apps choose their device at run time: what they ran on is what is
    # there. Two GPUs under two ranks mean NCCL between them.
    path = "cpu" if not found else "cuda" if len(found) < 2 else "nccl-2"
    # A commit cannot name itself: what ran is this one, or it with changes.
    commit = git("rev-parse", "--short=12", "HEAD")
    if git("status", "--porcelain"):
        commit += "+"
    entries = {(e["app"], e["path"]): e for e in read()}
    sizes = {"smoke": "smoke", "full": "laptop"}
    for case in xml.parse(junit).getroot().iter("testcase"):
        kind, _, app = case.get("name", "").partition(".")
        size = sizes.get(kind)
        if not size or case.get("status") != "run":
            continue
        seconds = entries.get((app, path), {}).get("seconds", {})
        entries[app, path] = {
            "app": app, "path": path, "device": (found or [cpu_model()])[0],
            "date": datetime.date.today().isoformat(), "commit": commit,
            "seconds": seconds | {size: math.ceil(float(case.get("time")))}}
    ordered = [entries[key] for key in sorted(entries)]
    FILE.write_text(json.dumps({"schema": 1, "entries": ordered}, indent=2)
                    + "\n")
    print(f"{FILE.relative_to(ROOT)}: {len(ordered)} entries")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    of = {verb: verbs.add_parser(verb) for verb in ("record", "maps")}
    of["record"].add_argument("--junit", required=True)
    for verb in of.values():
        verb.add_argument("--manifest", required=True)
    args = parser.parse_args()
    if args.verb == "record":
        record(args.junit)
    update_maps(args.manifest)


if __name__ == "__main__":
    main()
