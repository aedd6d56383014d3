#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Refreshes or checks the outputs shown in READMEs.

A block, written by hand once as its first line alone, is

    <!-- run: scripts/book list -->
    ```text
    $ scripts/book list

    what the command printed on stdout
    ```
    <!-- ran: 2 cores, CPU model (avx2), Debian 12, 2026-11-23 -->

`<!-- run class=gpu: ... -->` belongs to machines with an NVIDIA GPU; a
block without a class to machines without one. The others are left alone.

  refresh_readme.py [--root DIR] [--check] [FILE...]

--check compares with numbers masked, since times differ from run to run,
and exits 1 with a diff where the text does.
"""
import argparse
import datetime
import difflib
import glob
import os
import re
import subprocess
import sys

RUN = re.compile(r"<!-- run(?: class=(\w+))?: (.+?) -->$")
CLASSES = ("cpu", "gpu")
TIMEOUT_S = 600


class BlockError(Exception):
    """A block cannot be read, or its command failed."""


def machine_class():
    probe = subprocess.run(["sh", "-c", "nvidia-smi -L"], check=False,
                           capture_output=True, text=True)
    return "gpu" if probe.returncode == 0 and "GPU" in probe.stdout else "cpu"


def cpu_model(text):
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return " ".join(found[1].split()) if found else os.uname().machine


def machine():
    """"2 cores, CPU model (avx2), Debian 12"."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        text = file.read()
    name = cpu_model(text)
    flags = set(re.findall(r"\S+", "".join(
        re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.M)[:1])))
    best = [word for flag, word in
            (("amx_tile", "amx"), ("avx512f", "avx512"), ("avx2", "avx2"),
             ("sve", "sve"), ("asimd", "neon")) if flag in flags][:1]
    system = {}
    with open("/etc/os-release", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.strip().partition("=")
            system[key] = value.strip('"')
    release = (system.get("NAME", "Linux").split()[0] + " "
               + system.get("VERSION_ID", "")).strip()
    parts = [f"{len(os.sched_getaffinity(0))} cores",
             name + (f" ({best[0]})" if best else "")]
    if machine_class() == "gpu":
        gpus = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            check=True, capture_output=True, text=True).stdout.splitlines()
        parts.append(f"{len(gpus)} x {gpus[0].strip()}")
    return ", ".join(parts + [release])


def run(command, root, build):
    """The command's stdout, free of what belongs to this checkout."""
    environment = dict(os.environ, NO_COLOR="1")
    if not build:
        environment["DAI_NO_BUILD"] = "1"
    done = subprocess.run(["bash", "-c", command], cwd=root, check=False,
                          env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise BlockError(f"'{command}' exited {done.returncode}:\n"
                         + done.stdout[-2000:] + done.stderr[-2000:])
    text = done.stdout.replace(root + os.sep, "").expandtabs()
    # The name of this host is nobody's business; columns keep their width.
    text = re.sub(rf"\b{re.escape(os.uname().nodename)}\b( *)",
                  lambda m: ("HOST" + m[1][:1]).ljust(len(m[0])), text)
    if "```" in text:
        raise BlockError(f"'{command}' printed a code fence")
    return ["$ " + command, ""] + [
        line.rstrip() for line in text.strip("\n").splitlines()]


def masked(lines, cpu=""):
    """The lines without what may differ between two good runs: numbers,
    widths, the preset, the CPU named `cpu`."""
    out = []
    for line in lines:
        if cpu:
            line = line.replace(cpu, "CPU")
        line = re.sub(r"\bbuild/(cpu|cuda|asan|tsan)\b", "build/P", line)
        line = re.sub(r"(?<![A-Za-z_\d])v?[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "N",
                      line)
        line = re.sub(r"([#=\-*█])\1{2,}", r"\1", line)
        out.append(" ".join(line.split()))
    return out


def find_block(lines, start):
    """(output lines, CPU they come from, index after the block) of the run
    comment at `start`."""
    at = start + 1
    while at < len(lines) and not lines[at].strip():
        at += 1
    if at == len(lines) or lines[at] != "```text":
        return [], "", start + 1
    end = at + 1
    while end < len(lines) and lines[end] != "```":
        end += 1
    if end == len(lines):
        raise BlockError(f"line {at + 1}: ```text is never closed")
    after, cpu = end + 1, ""
    if after < len(lines) and lines[after].startswith("<!-- ran: "):
        made_on = re.match(r"<!-- ran: \d+ cores, (.+?)(?: \(\w+\))?, ",
                           lines[after])
        cpu = made_on[1] if made_on else ""
        after += 1
    return lines[at + 1:end], cpu, after


def process(path, args, here):
    """Returns (blocks of this class, differing blocks)."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    shown = os.path.relpath(path, args.root)
    out, at, seen, wrong = [], 0, 0, 0
    fenced = False
    while at < len(lines):
        match = None if fenced else RUN.match(lines[at])
        if not match:
            fenced ^= lines[at].startswith("```")
            out.append(lines[at])
            at += 1
            continue
        wanted = match[1] or "cpu"
        if wanted not in CLASSES:
            raise BlockError(f"{shown}:{at + 1}: class={wanted}; there are: "
                             + " ".join(CLASSES))
        try:
            old, cpu, after = find_block(lines, at)
            if wanted != here:
                out += lines[at:after]
                at = after
                continue
            seen += 1
            print(f"{shown}:{at + 1}: {match[2]}", file=sys.stderr)
            new = run(match[2], args.root, not args.check)
        except BlockError as error:
            raise BlockError(f"{shown}:{at + 1}: {error}") from error
        before, now = masked(old, cpu), masked(new, args.cpu)
        if args.check and before != now:
            wrong += 1
            print("\n".join(difflib.unified_diff(
                before, now, f"{shown}:{at + 1}", match[2], lineterm="")))
        out += [lines[at], "```text", *new, "```",
                f"<!-- ran: {args.machine}, {args.today} -->"]
        at = after
    if not args.check and seen:
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write("\n".join(out) + "\n")
        os.replace(path + ".new", path)
    return seen, wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", default=os.path.dirname(
        os.path.dirname(os.path.abspath(__file__))))
    args = parser.parse_args()
    args.root = os.path.abspath(args.root)
    args.machine = machine()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        args.cpu = cpu_model(file.read())
    args.today = datetime.date.today().isoformat()
    here = machine_class()
    files = args.files or (
        glob.glob(os.path.join(args.root, "README.md"))
        + sorted(glob.glob(os.path.join(args.root, "ch*", "README.md")))
        + sorted(glob.glob(os.path.join(args.root, "ch*",
                                        "TROUBLESHOOTING.md")))
        + glob.glob(os.path.join(args.root, "scripts", "README.md")))
    seen = wrong = 0
    for path in files:
        blocks, differing = process(os.path.abspath(path), args, here)
        seen, wrong = seen + blocks, wrong + differing
    verb = "checked" if args.check else "refreshed"
    print(f"{verb} {seen} blocks of class {here} in {len(files)} READMEs"
          + (f", {wrong} differ: scripts/book refresh-readme" if wrong
             else ""))
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BlockError, OSError, subprocess.TimeoutExpired) as error:
        print(f"refresh_readme.py: {error}", file=sys.stderr)
        sys.exit(1)
