#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chapter 6: what bounded steps are worth, and what they cost.

An 8,000-token prompt arrives, a short request of 16 tokens a millisecond later,
on SmolLM2-135M in float32, as the clock goes (ch06_continuous_batching
--real-time). Ours is the default budget of a step. "Whole" gives every prompt
to one step, as static batching does. The runs alternate, each is a program of
its own; a sample is a run. Ratios are theirs / ours of the medians, above 1
where ours is better.

short_ttft_beside_8k_vs_whole   until the short request's first token
step_p99_beside_8k_vs_250ms     of the run's steps 99 % take less; against 250 ms
long_ttft_vs_whole              until the long one's: the price, no bar

  scripts/book bench ch06 --json FILE
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "lib"))
# pylint: disable=wrong-import-position
from bench_rows import (  # noqa: E402
    bootstrap, cpu_model, show_rows, shown)

LONG, SHORT, WHOLE, LIMIT_MS = 8000, 16, 1_000_000, 250


class Side:
    def __init__(self, build, arrivals, *words):
        self.command = [str(build / "bin/ch06_continuous_batching"), "--smoke",
                        "--device", "cpu", "--arrivals", arrivals,
                        "--real-time", "continuous", *words]
        self.short, self.long, self.step = [], [], []

    def run(self, report):
        # Its checks are for traces of many.
        ran = subprocess.run([*self.command, "--json", report], text=True,
                             capture_output=True, check=False)
        if ran.returncode not in (0, 1):
            sys.exit(f"{shown(self.command)} failed: {ran.stderr}")
        done = json.loads(pathlib.Path(report).read_text())
        long, short = done["in_real_time"]
        self.short.append(short[1] - short[0])
        self.long.append(long[1] - long[0])
        self.step.append(done["metrics"]["step_p99_ms_real"])


def row(name, metric, us, mine, peer, theirs, command, versions):
    return {"name": name, "peer": peer, "metric": metric, "unit": "ms",
            "ours": statistics.median(mine),
            "theirs": statistics.median(theirs),
            "ratio": statistics.median(theirs) / statistics.median(mine),
            "ci95": bootstrap(mine, theirs), "samples": len(mine),
            "ours_cmd": shown(us.command), "theirs_cmd": command,
            "versions": versions, "threads": os.cpu_count()}


def show(rows):
    show_rows(rows, digits=0)
    v = rows[0]["versions"]
    print(f"{v['date']}, {v['cpu']}, {rows[0]['threads']} threads")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json")
    parser.add_argument("--show", metavar="FILE", help="print rows, no more")
    parser.add_argument("--pairs", type=int, default=7)
    a = parser.parse_args()
    if a.show:
        show(json.loads(pathlib.Path(a.show).read_text())["rows"])
        return
    if not a.json:
        parser.error("--json FILE or --show FILE")
    if a.pairs < 7:
        parser.error("fewer than 7 pairs are no result")
    open(a.json + ".new", "w", encoding="utf-8").close()  # before the work
    build = ROOT / "build" / os.environ.get("DAI_PRESET", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        arrivals = os.path.join(folder, "arrivals")
        pathlib.Path(arrivals).write_text(f"0 {LONG} 1\n1 {SHORT} 1\n")
        report = os.path.join(folder, "report.json")
        ours = Side(build, arrivals)
        whole = Side(build, arrivals, "--step-tokens", str(WHOLE))
        for pair in range(a.pairs):
            for side in (ours, whole) if pair % 2 else (whole, ours):
                side.run(report)
            print(f"pair {pair + 1}/{a.pairs}: short {ours.short[-1]:.0f} and "
                  f"{whole.short[-1]:.0f} ms, p99 of its steps "
                  f"{ours.step[-1]:.0f} ms", file=sys.stderr)
    versions = {"cpu": cpu_model(), "date": time.strftime("%Y-%m-%d")}
    rows = [
        row("short_ttft_beside_8k_vs_whole", "time to first token", ours,
            ours.short, "ours, whole prompts", whole.short,
            shown(whole.command), versions),
        row("step_p99_beside_8k_vs_250ms", "99 % of steps", ours,
            ours.step, "a limit", [LIMIT_MS] * a.pairs, "250 ms", versions),
        row("long_ttft_vs_whole", "time to first token", ours, ours.long,
            "ours, whole prompts", whole.long, shown(whole.command),
            versions)]
    with open(a.json + ".new", "w", encoding="utf-8") as file:
        json.dump({"schema": 1, "rows": rows}, file, indent=1)
        file.write("\n")
    os.replace(a.json + ".new", a.json)
    show(rows)


if __name__ == "__main__":
    main()
