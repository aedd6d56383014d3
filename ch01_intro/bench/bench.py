#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chapter 1 against PyTorch in Python: the training step of one decoder.

Same weights, same text, same batch, same cores. All programs are started
first and then take turns, a few steps each, so that what slows the machine
slows them alike; a ratio is made of neighbouring turns.

  scripts/book bench ch01 --json FILE        (sets up the peer and builds)
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = dict(vocab_size=16384, hidden=192, layers=12, heads=12, kv_heads=12,
             ffn=576)  # bench-9m; a test compares it with decoder_config.cpp
BATCH, WINDOW = 8, 128


class Program:
    """A program that trains as many steps as a line on its stdin says."""

    def __init__(self, label, command, threads):
        self.label, self.command = label, command
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.turns = []  # median ms of each
        self.peak_rss_bytes = 0
        self.loss = 0.0

    def train(self, steps, keep=True):
        print(steps, file=self.process.stdin, flush=True)
        while True:
            line = self.process.stdout.readline()
            if not line:
                sys.exit(f"{self.label} ended: {' '.join(self.command)}")
            if line.startswith("{"):
                break
        answer = json.loads(line)
        self.peak_rss_bytes, self.loss = answer["peak_rss_bytes"], answer["loss"]
        if keep:
            self.turns.append(statistics.median(answer["step_ms"]))

    def end(self):
        self.process.stdin.close()
        self.process.stdout.read()
        if self.process.wait(60) != 0:
            sys.exit(f"{self.label} failed: {' '.join(self.command)}")


def bootstrap(ours, theirs):
    """95 % of the ratio of medians, pairs drawn with replacement."""
    draw = random.Random(1234)
    pairs = list(zip(ours, theirs))
    ratios = []
    for _ in range(2000):
        chosen = draw.choices(pairs, k=len(pairs))
        ratios.append(statistics.median(t for _, t in chosen) /
                      statistics.median(o for o, _ in chosen))
    ratios.sort()
    return [ratios[50], ratios[1949]]


def shown(command):
    return " ".join(str(word).replace(str(ROOT) + "/", "") for word in command)


def row(name, metric, unit, ours, theirs, mine, other, threads, versions):
    a, b = statistics.median(mine), statistics.median(other)
    return {"name": name, "peer": theirs.label, "metric": metric,
            "unit": unit, "ours": a, "theirs": b, "ratio": b / a,
            "ci95": bootstrap(mine, other), "samples": len(mine),
            "ours_cmd": shown(ours.command), "theirs_cmd": shown(theirs.command),
            "versions": versions, "threads": threads}


def commands(tokens, build, threads):
    python = str(ROOT / ".deps/venv/bin/python")
    app = str(build / "bin" / "ch01_train_baseline")
    peer = [python, str(ROOT / "ch01_intro/peers/train_peer.py"),
            "--tokens", tokens, "--batch", str(BATCH), "--window", str(WINDOW),
            "--threads", str(threads)]
    for key, value in MODEL.items():
        peer += ["--" + key.replace("_", "-"), str(value)]
    ours = [app, "--model", "bench-9m", "--batch", str(BATCH), "--window",
            str(WINDOW), "--lr", "3e-4", "--device", "cpu", "--paced"]
    return {"naive": ours + ["--rung", "naive", "--tokens-out", tokens],
            "fused": ours + ["--rung", "fused"],
            "eager": peer + ["--mode", "eager"],
            "compile": peer + ["--mode", "compile"]}


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
    build = ROOT / "build" / os.environ.get("DAI_PRESET", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        words = commands(os.path.join(folder, "tokens.i32"), build, a.threads)
        programs = {}
        for label in ("naive", "fused", "eager", "compile"):
            programs[label] = Program(
                label if label in ("naive", "fused") else "pytorch " + label,
                words[label], a.threads)
            # The first of ours writes the tokens; torch.compile compiles here.
            start = time.time()
            programs[label].train(3, keep=False)
            print(f"{label}: ready after {time.time() - start:.0f} s",
                  file=sys.stderr)
        order = list(programs.values())
        for turn in range(a.turns):
            for program in order[turn % 4:] + order[:turn % 4]:
                time.sleep(0.3)  # idle threads stop spinning
                program.train(a.steps)
            print(f"turn {turn + 1}/{a.turns}: " + ", ".join(
                f"{p.label} {p.turns[-1]:.0f} ms" for p in order),
                file=sys.stderr)
        for program in order:
            program.end()
    naive, fused, eager, compiled = (programs[k] for k in
                                     ("naive", "fused", "eager", "compile"))
    versions = json.loads(subprocess.check_output(
        [str(ROOT / ".deps/venv/bin/python"), "-c",
         "import torch, json, sys; print(json.dumps({'torch': "
         "torch.__version__, 'python': sys.version.split()[0]}))"], text=True))

    def step(name, ours, theirs):
        return row(name, "training step", "ms", ours, theirs, ours.turns,
                   theirs.turns, a.threads, versions)
    rows = [step("train_step_vs_pytorch", naive, eager),
            step("train_step_fused_vs_pytorch", fused, eager),
            step("train_step_fused_vs_compile", fused, compiled),
            step("train_step_fused_vs_naive", fused, naive)]
    # One number a process: what it held at most.
    for name, theirs in (("train_rss_vs_pytorch", eager),
                         ("train_rss_vs_compile", compiled)):
        rows.append({
            **row(name, "peak resident memory", "MiB", fused, theirs,
                  [fused.peak_rss_bytes / 2**20],
                  [theirs.peak_rss_bytes / 2**20], a.threads, versions),
            "ci95": None, "samples": 1})
    with open(a.json + ".new", "w", encoding="utf-8") as file:
        json.dump({"schema": 1, "rows": rows}, file, indent=1)
    os.replace(a.json + ".new", a.json)
    for r in rows:
        interval = "" if r["ci95"] is None else \
            " [{:.2f}, {:.2f}]".format(*r["ci95"])
        print(f"{r['name']}: {r['ours']:.1f} against {r['theirs']:.1f} "
              f"{r['unit']}, ratio {r['ratio']:.2f}{interval}")


if __name__ == "__main__":
    main()
