#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chapter 1 against PyTorch in Python: the training step of one decoder.

Same weights, same windows of the same text, same batch, same cores. All
programs are started first and then take turns, a few steps each, so that what
slows the machine slows them alike. A ratio is theirs / ours of the medians over
all turns, above 1 where ours is better; its interval draws neighbouring turns
as pairs (of memory's three runs it is hardly more than their range). After each
turn all must have the same loss, or there is no result. Memory is that of
processes of its own, started one after the other. PyTorch's float32
products go through MKL, which is slow on CPUs that are not Intel's; the fused
rung takes oneDNN there (decoder/cpu_product.h), and a ratio measured on such a
CPU holds for such CPUs.

  scripts/book bench ch01 --json FILE        (sets up the peer and builds)
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "lib"))
# pylint: disable=wrong-import-position
from bench_rows import bootstrap, cpu_model, shown  # noqa: E402

MODEL, BATCH, WINDOW = "bench-9m", 8, 128
WARMUP, MEMORY_STEPS, MEMORY_RUNS = 3, 8, 3
# Float32 sums in other orders: what remains after some fifty steps.
SAME_LOSS = 1e-3


class Program:
    """A program that trains as many steps as a line on its stdin says."""

    def __init__(self, label, command, threads):
        self.label, self.command, self.threads = label, command, threads
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.turns = []  # median ms of each
        self.peak_rss_bytes = 0
        self.loss = 0.0

    def answer(self):
        """The next line of JSON; what the program tells people is passed."""
        while True:
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"{self.label} ended: {' '.join(self.command)}")
            if line.startswith("{"):
                return json.loads(line)

    def train(self, steps, keep=True):
        print(steps, file=self.process.stdin, flush=True)
        answer = self.answer()
        self.peak_rss_bytes = answer["peak_rss_bytes"]
        self.loss = answer["loss"]
        if keep:
            self.turns.append(statistics.median(answer["step_ms"]))

    def end(self):
        self.process.stdin.close()
        self.process.stdout.read()
        if self.process.wait(60) != 0:
            sys.exit(f"{self.label} failed: {' '.join(self.command)}")


def refuse_other_losses(programs):
    """A faster program that computes something else would be no result."""
    first = programs[0].loss
    # A NaN is near nothing, itself included.
    if not all(abs(p.loss - first) <= SAME_LOSS * first for p in programs):
        sys.exit("the programs do not train the same: losses " + ", ".join(
            f"{p.label} {p.loss:.6f}" for p in programs))


def peak_mib(program):
    """The most memory that a process of its own held in a few steps, MiB."""
    peaks = []
    for _ in range(MEMORY_RUNS):
        alone = Program(program.label, program.command, program.threads)
        if "--rung" in program.command:
            alone.answer()
        alone.train(MEMORY_STEPS)
        alone.end()
        peaks.append(alone.peak_rss_bytes / 2**20)
    print(f"{program.label}: " + ", ".join(f"{p:.0f} MiB" for p in peaks),
          file=sys.stderr)
    return peaks


def row(name, metric, unit, us, theirs, mine, other, threads, versions):
    a, b = statistics.median(mine), statistics.median(other)
    return {"name": name, "peer": theirs.label, "metric": metric,
            "unit": unit, "ours": a, "theirs": b, "ratio": b / a,
            "ci95": bootstrap(mine, other), "samples": len(mine),
            "ours_cmd": shown(us.command), "theirs_cmd": shown(theirs.command),
            "versions": versions, "threads": threads}


def ours(build, rung, *more):
    return [str(build / "bin" / "ch01_train_baseline"), "--model", MODEL,
            "--batch", str(BATCH), "--window", str(WINDOW), "--lr", "3e-4",
            "--device", "cpu", "--paced", "--rung", rung, *more]


def peer(mode, sizes, windows, threads):
    words = [str(ROOT / ".deps/venv/bin/python"),
             str(ROOT / "ch01_intro/peers/train_peer.py"), "--mode", mode,
             "--windows", windows, "--threads", str(threads),
             "--batch", str(BATCH), "--window", str(WINDOW)]
    for key, value in sizes.items():
        words += ["--" + key.replace("_", "-"), str(value)]
    return words


def start_all(build, windows, steps, threads):
    """Every program, ready to train: text read, graphs compiled."""
    programs = {}

    def start(key, label, command):
        begun = time.time()
        programs[key] = Program(label, command, threads)
        sizes = programs[key].answer()["decoder"] if "--rung" in command \
            else None
        programs[key].train(WARMUP, keep=False)
        print(f"{label}: ready after {time.time() - begun:.0f} s",
              file=sys.stderr)
        return sizes
    sizes = start("naive", "naive",
                  ours(build, "naive", "--windows-out", windows,
                       "--steps", str(steps)))
    start("fused", "fused", ours(build, "fused"))
    for mode in ("eager", "compile"):
        start(mode, "pytorch " + mode, peer(mode, sizes, windows, threads))
    return programs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", required=True)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5, help="of a turn")
    parser.add_argument("--threads", type=int,
                        default=len(os.sched_getaffinity(0)))
    a = parser.parse_args()
    if a.turns < 7:
        parser.error("fewer than 7 turns are no result")
    open(a.json + ".new", "w", encoding="utf-8").close()  # before the work
    build = ROOT / "build" / os.environ.get("DAI_PRESET", "cpu")
    programs = start_all(build, str(build / "ch01_bench_windows.i32"),
                         WARMUP + a.turns * a.steps, a.threads)
    order = list(programs.values())
    refuse_other_losses(order)
    for turn in range(a.turns):
        for program in order[turn % 4:] + order[:turn % 4]:
            time.sleep(0.3)  # idle threads stop spinning
            program.train(a.steps)
        print(f"turn {turn + 1}/{a.turns}, loss {order[0].loss:.4f}: " +
              ", ".join(f"{p.label} {p.turns[-1]:.0f} ms" for p in order),
              file=sys.stderr)
        refuse_other_losses(order)
    for program in order:
        program.end()
    naive, fused, eager, compiled = (programs[k] for k in
                                     ("naive", "fused", "eager", "compile"))
    versions = json.loads(subprocess.check_output(
        [str(ROOT / ".deps/venv/bin/python"), "-c",
         "import torch, json, sys; print(json.dumps({'torch': "
         "torch.__version__, 'python': sys.version.split()[0]}))"], text=True))
    versions.update(cpu=cpu_model(), date=time.strftime("%Y-%m-%d"))

    def step(name, us, theirs):
        return row(name, "training step", "ms", us, theirs, us.turns,
                   theirs.turns, a.threads, versions)
    rows = [step("train_step_vs_pytorch", naive, eager),
            step("train_step_fused_vs_pytorch", fused, eager),
            step("train_step_fused_vs_compile", fused, compiled),
            step("train_step_fused_vs_naive", fused, naive)]
    held = peak_mib(fused)
    for name, theirs in (("train_rss_vs_pytorch", eager),
                         ("train_rss_vs_compile", compiled)):
        rows.append(row(name, "peak resident memory", "MiB", fused, theirs,
                        held, peak_mib(theirs), a.threads, versions))
    with open(a.json + ".new", "w", encoding="utf-8") as file:
        json.dump({"schema": 1, "rows": rows}, file, indent=1)
    os.replace(a.json + ".new", a.json)
    for r in rows:
        print(f"{r['name']}: {r['ours']:.1f} against {r['theirs']:.1f} "
              f"{r['unit']}, ratio {r['ratio']:.2f} "
              "[{:.2f}, {:.2f}]".format(*r["ci95"]))


if __name__ == "__main__":
    main()
