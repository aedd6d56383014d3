#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What ran where, kept by a program: tests/executed.json.

  executed.py record --junit build/cpu/junit.xml   adds this machine's passes
  executed.py cell ch01_first_distributed --manifest build/cpu/manifest.json
      prints the README's "needs" cell: each path of the app, and "never
      executed" behind those that no machine has run

An entry is (app, path): cpu, cuda (one GPU), nccl-2 (two GPUs and NCCL). The
newest run of a pair replaces the older one.
"""
import argparse
import datetime
import json
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
    for case in xml.parse(junit).getroot().iter("testcase"):
        name = case.get("name", "")
        if not name.startswith("smoke.") or case.get("status") != "run":
            continue
        app = name.removeprefix("smoke.")
        entries[app, path] = {
            "app": app, "path": path, "device": (found or [cpu_model()])[0],
            "date": datetime.date.today().isoformat(), "commit": commit}
    ordered = [entries[key] for key in sorted(entries)]
    FILE.write_text(json.dumps({"schema": 1, "entries": ordered}, indent=2)
                    + "\n")
    print(f"{FILE.relative_to(ROOT)}: {len(ordered)} entries")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("record").add_argument("--junit", required=True)
    cell = verbs.add_parser("cell")
    cell.add_argument("app")
    cell.add_argument("--manifest", required=True)
    args = parser.parse_args()
    if args.verb == "record":
        record(args.junit)
        return
    apps = json.loads(pathlib.Path(args.manifest).read_text())["apps"]
    for app in apps:
        if app["name"] == args.app:
            print(needs_cell(app, read()))
            return
    parser.error(f"no app {args.app} in {args.manifest}")


if __name__ == "__main__":
    main()
