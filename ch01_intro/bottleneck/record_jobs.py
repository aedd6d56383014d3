#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records jobs whose trouble is known: the examination of the verdict.

  record_jobs.py [--kinds input,memory] [--seeds 1-10] [--out FOLDER]

Runs ch01_find_bottleneck under inject.py, each kind with each seed, and
writes FOLDER/bottleneck_KIND.json (as committed in ch01_intro/recorded/):
evidence, what was injected, and the command. It prints what each job's own
verdict was; a wrong one is kept like a right one. A seed that the file has
already is replaced.

The machine must have nothing else to do, or "none" is not true (as root,
`chrt -r 1 record_jobs.py` keeps the rest of it away). The memory job is one
rank, since the thrasher takes a core, and small enough to live in the L3 cache,
which is what a neighbour takes away; what needs no cache, none can. Its steps
are so short that the last of four windows counts, when the neighbour is awake.

Whether the disturbance has reached the job is looked at before it counts: its
step must take 1.1 x as long as in the reference, else the seed is tried again
(a virtual machine's two cores are not always behind the same L3 cache). The
file tells how many tries there were. What the verdict says plays no part.
Exit codes: 0 all recorded, 1 some run failed, 2 wrong usage.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
APP = "ch01_find_bottleneck"
# kind of trouble: how inject.py makes it
TRIES, PAUSE_S, REACHED = 30, 2, 1.1
INJECTED = {"none": "none", "input": "slow-reader", "compute": "stopped-rank",
            "memory": "cache-thrasher", "communication": "slow-link"}


def job(kind, seed, bin_dir, record):
    """The command. Healthy jobs are of all three sorts."""
    sort = {"input": "fed", "memory": "small"}.get(kind, "plain")
    if kind == "none":
        sort = ("plain", "fed", "small")[seed % 3]
    ranks = 1 if kind == "memory" else 2
    words = [sys.executable, HERE / "inject.py", INJECTED[kind],
             "--seed", seed, "--when", "watching", "--",
             bin_dir / "dai_launch", "--standalone", "--nproc-per-node", ranks,
             bin_dir / APP, "--windows", 4 if sort == "small" else 1,
             "--record", record]
    if sort == "fed":
        words += ["--input", "{feed}"]
    if sort == "small":
        words += ["--microbatches", ranks, "--tokens", 8,
                  "--reference-steps", 24, "--window", 24]
    return [str(word) for word in words]


def shown(command, bin_dir, evidence):
    """As a reader would type it: no folder of this machine."""
    return (" ".join(command[1:]).replace(str(HERE), "ch01_intro/bottleneck")
            .replace(f"{bin_dir}/", "").replace(str(evidence), "job.json"))


def step_ratio(evidence):
    at = evidence["measures"].index("step_ms")
    before, after = (statistics.median(step[0][at] for step in evidence[part])
                     for part in ("reference", "watched"))
    return after / before


def record(kind, seed, bin_dir, tried):
    """One job, or None where it left no evidence."""
    with tempfile.TemporaryDirectory() as folder:
        evidence = pathlib.Path(folder) / "job.json"
        command = job(kind, seed, bin_dir, evidence)
        done = subprocess.run(command, text=True, capture_output=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        # Exit code 1 is a failed check, such as of a file not yet recorded.
        if not evidence.exists():
            print(f"{kind} seed {seed}: exit {done.returncode}\n"
                  f"{done.stdout[-2000:]}{done.stderr[-2000:]}", flush=True)
            return None
        whole = json.loads(evidence.read_text())
    said = re.findall(r"^(verdict: .*)$", done.stdout, re.M)
    what = re.findall(r"^\[inject\] (.*)$", done.stderr, re.M)
    what = re.sub(r" \(pid \d+\)", "", what[-1] if what else "")
    print(f"{kind} seed {seed}, try {tried} ({what}): "
          f"{said[-1] if said else '?'}", flush=True)
    if kind != "none" and step_ratio(whole["data"]) < REACHED:
        if tried < TRIES:
            time.sleep(PAUSE_S)
            return record(kind, seed, bin_dir, tried + 1)
        print(f"{kind} seed {seed}: never reached the job", flush=True)
        return None
    whole["data"] = {"truth": kind, "seed": seed, "injected": what,
                     "tries": tried,
                     "command": shown(command, bin_dir, evidence),
                     "evidence": whole["data"]}
    return whole


def pretty(value, depth=0):
    """A line for each innermost list, as recorded.cpp writes."""
    flat = not isinstance(value, (dict, list)) or not value or (
        isinstance(value, list) and not isinstance(value[0], (dict, list)))
    if flat:
        return json.dumps(value, separators=(",", ":"))
    pad = "  " * (depth + 1)
    items = ([f"{json.dumps(k)}: {pretty(v, depth + 1)}"
              for k, v in value.items()] if isinstance(value, dict)
             else [pretty(v, depth + 1) for v in value])
    both = "{}" if isinstance(value, dict) else "[]"
    inside = ",\n".join(pad + item for item in items)
    return f"{both[0]}\n{inside}\n{'  ' * depth}{both[1]}"


def keep(path, whole):
    jobs = []
    if path.exists():
        jobs = json.loads(path.read_text())["data"]["jobs"]
    new = whole["data"]
    jobs = [old for old in jobs if old["seed"] != new["seed"]] + [new]
    whole["data"] = {"jobs": sorted(jobs, key=lambda one: one["seed"])}
    path.write_text(pretty(whole) + "\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(INJECTED))
    parser.add_argument("--seeds", default="1-10", metavar="FIRST-LAST")
    parser.add_argument("--out", type=pathlib.Path,
                        default=HERE.parent / "recorded")
    parser.add_argument("--bin", type=pathlib.Path,
                        default=HERE.parents[1] / "build/cuda/bin")
    args = parser.parse_args()
    span = re.fullmatch(r"(\d+)-(\d+)", args.seeds)
    kinds = args.kinds.split(",")
    if not span or not set(kinds) <= set(INJECTED):
        parser.error(f"kinds of {', '.join(INJECTED)} and seeds such as 1-10 "
                     "are expected")
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for seed in range(int(span[1]), int(span[2]) + 1):
        for kind in kinds:
            whole = record(kind, seed, args.bin.resolve(), 1)
            if whole is None:
                failed += 1
            else:
                keep(args.out / f"bottleneck_{kind}.json", whole)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
