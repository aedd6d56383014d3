#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chapter 3 against PyTorch in Python: a data-parallel training step.

Same weights, same windows of the same text, global batch 8 x 128, two ranks of
one thread each, AdamW in one fused pass on both sides, gradients clipped at
norm 1. All programs are started first and then take turns, a few steps each,
so that what slows the machine slows them alike. After each turn all must have
the same loss, or there is no result. Then all begin anew: where a process lies
in memory makes it up to 2 % faster or slower for as long as it lives, so that a
sample is a start, by the median of its turns. A ratio is theirs / ours of the
medians over all starts, above 1 where ours is better. Ours keeps the memory it
has freed (common/allocator.h) and PyTorch does not; `kept` in a row's name is
PyTorch told to, by glibc's tunables. Memory is rank 0's at its peak, of
programs of its own, seven pairs that begin anew. Weak scaling compares a rank
alone with two, the same microbatch each: 1 would be perfect. Strong scaling
compares a rank that does all of it with two that share it: ours is twice the
time of two, and 1 would be perfect again. Four ranks have half a core each.
watch_step_vs_off is the step that the doctor watches: what is missing to 1 is its
price. save_stall_vs_foreground is how long training stands still for a checkpoint
of weights and optimizer, written behind it or in front of it. Tuned buckets are ch03_bucket_explorer's choice for two nodes joined by 4
Gbit/s (scripts/vcluster), against PyTorch's default sizes, both ours.

  scripts/book bench ch03 --json FILE        (sets up the peer and builds)

With --parts the rows of these parts are measured anew, and FILE keeps its others.
"""
import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "lib"))
# pylint: disable=wrong-import-position
from bench_rows import (  # noqa: E402
    bootstrap, cpu_model, show_rows, shown)

MODEL, GLOBAL_BATCH, WINDOW, RANKS = "bench-9m", 8, 128, 2
BATCH = GLOBAL_BATCH // RANKS
WARMUP = 4
# What common/allocator.h tells malloc from within.
KEPT = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1073741824:"
                          "glibc.malloc.trim_threshold=1073741824"}
# Float32 sums in other orders: what remains after some fifty steps.
SAME_LOSS = 1e-3


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """Ranks that train as many steps as a line on rank 0's stdin says."""

    def __init__(self, label, command, ranks=RANKS, variables=()):
        self.label, self.ranks = label, ranks
        self.command = [f"{k}={v}" for k, v in dict(variables).items()]
        self.command += command
        port = str(free_port())
        self.processes = []
        for rank in range(ranks):
            environment = dict(
                os.environ, OMP_NUM_THREADS="1", RANK=str(rank),
                LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks),
                LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port, **dict(variables))
            self.processes.append(subprocess.Popen(
                command, cwd=ROOT, env=environment, text=True,
                stdin=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL))
        self.turns, self.peak_rss_bytes, self.loss = [], 0, 0.0

    def answer(self):
        while True:
            line = self.processes[0].stdout.readline()
            if not line:
                sys.exit(f"{self.label} ended: {' '.join(self.command)}")
            if line.startswith("{"):
                return json.loads(line)

    def train(self, steps, keep=True):
        print(steps, file=self.processes[0].stdin, flush=True)
        answer = self.answer()
        self.peak_rss_bytes = answer["peak_rss_bytes"]
        self.loss = answer["loss"]
        if keep:
            self.turns.append(statistics.median(answer["step_ms"]))

    def end(self):
        self.processes[0].stdin.close()
        self.processes[0].stdout.read()
        for process in self.processes:
            if process.wait(60) != 0:
                sys.exit(f"{self.label} failed: {' '.join(self.command)}")


def ours(build, rung, backend, *more, microbatches=RANKS, batch=BATCH):
    return [str(build / "bin" / "ch03_ddp_train"), "--model", MODEL,
            "--microbatches", str(microbatches),
            "--microbatch-size", str(batch),
            "--window", str(WINDOW), "--lr", "3e-4", "--device", "cpu",
            "--rung", rung, "--backend", backend, "--sync", "reducer",
            "--timeout-s", "900", "--paced", *more]


def peer(mode, sizes, windows, batch=BATCH):
    words = [str(ROOT / ".deps/venv/bin/python"),
             str(ROOT / "ch03_ddp/peers/ddp_peer.py"), "--mode", mode,
             "--windows", windows, "--batch", str(batch),
             "--window", str(WINDOW)]
    for key, value in sizes.items():
        words += ["--" + key.replace("_", "-"), str(value)]
    return words


def refuse_other_losses(programs):
    first = programs[0].loss
    # A NaN is near nothing, itself included.
    if not all(abs(p.loss - first) <= SAME_LOSS * first for p in programs):
        sys.exit("the programs do not train the same: losses " + ", ".join(
            f"{p.label} {p.loss:.6f}" for p in programs))


class Company:
    """Programs that have started and then take turns."""

    def __init__(self):
        self.programs = {}

    def start(self, key, label, command, ranks=RANKS, variables=()):
        begun = time.time()
        program = self.programs[key] = Program(label, command, ranks,
                                               variables)
        sizes = program.answer()["decoder"] if "--rung" in command else None
        program.train(WARMUP, keep=False)
        print(f"{label}: ready after {time.time() - begun:.0f} s",
              file=sys.stderr)
        return sizes

    def start_in_turn(self, first, programs):
        """`programs` are what start() takes; another one is first each time."""
        at = first % len(programs)
        for words in programs[at:] + programs[:at]:
            self.start(*words)

    def take_turns(self, turns, steps, unlike=()):
        """`unlike`: those whose global batch is another one."""
        order = list(self.programs.values())
        same = [p for key, p in self.programs.items() if key not in unlike]
        refuse_other_losses(same)
        for turn in range(turns):
            at = turn % len(order)
            for program in order[at:] + order[:at]:
                time.sleep(0.3)  # idle threads stop spinning
                program.train(steps)
            print(f"turn {turn + 1}/{turns}, loss {same[0].loss:.4f}: " +
                  ", ".join(f"{p.label} {p.turns[-1]:.0f} ms" for p in order),
                  file=sys.stderr)
            refuse_other_losses(same)
        for program in order:
            program.end()


def against_pytorch(build, windows, turns, steps, start):
    company = Company()
    sizes = company.start(
        "gloo", "ours, naive rung, gloo",
        ours(build, "naive", "gloo", "--windows-out", windows, "--steps",
             str(WARMUP + turns * steps)))
    eager = peer("eager", sizes, windows)
    company.start_in_turn(start, [
        ("dai", "ours, naive rung, dai", ours(build, "naive", "dai")),
        ("fused", "ours, fused rung, dai", ours(build, "fused", "dai")),
        ("eager", "pytorch eager, gloo", eager),
        ("kept", "pytorch eager, gloo, freed memory kept", eager, RANKS, KEPT),
        ("compile", "pytorch compile, gloo", peer("compile", sizes, windows)),
        ("alone", "ours, naive rung, one rank",
         ours(build, "naive", "gloo", microbatches=1), 1)])
    company.take_turns(turns, steps, unlike=("alone",))
    return company.programs


def of_more_and_fewer_ranks(build, windows, turns, steps, start):
    company = Company()
    sizes = company.start(
        "dai", "ours, naive rung, dai",
        ours(build, "naive", "dai", "--windows-out", windows, "--steps",
             str(WARMUP + turns * steps)))
    quarter = GLOBAL_BATCH // 4
    company.start_in_turn(start, [
        ("whole", "ours, naive rung, one rank with the global batch",
         ours(build, "naive", "gloo"), 1),
        ("gloo4", "ours, naive rung, gloo, four ranks",
         ours(build, "naive", "gloo", microbatches=4, batch=quarter), 4),
        ("eager4", "pytorch eager, gloo, four ranks",
         peer("eager", sizes, windows, quarter), 4)])
    company.take_turns(turns, steps)
    return company.programs


class Measured:
    """A program over all its starts: a median of each."""

    def __init__(self, program):
        self.label, self.command, self.starts = (program.label,
                                                 program.command, [])


def over_starts(starts, begin):
    """`begin(start)` runs a company; by key what each start has measured."""
    all_of_them = {}
    for start in range(starts):
        print(f"start {start + 1}/{starts}", file=sys.stderr)
        for key, program in begin(start).items():
            measured = all_of_them.setdefault(key, Measured(program))
            measured.starts.append(statistics.median(program.turns))
    return all_of_them


def watched(build, turns, steps, start):
    company = Company()
    company.start_in_turn(start, [
        ("off", "ours, naive rung, dai", ours(build, "naive", "dai")),
        ("watched", "ours, naive rung, dai, --watch",
         ours(build, "naive", "dai", "--watch"))])
    company.take_turns(turns, steps)
    return company.programs


def saving(build, how, folder):
    """The stall of a save, in ms: the median of a run's six."""
    shutil.rmtree(folder, ignore_errors=True)
    report = str(build / "ch03_bench_saves.json")
    pathlib.Path(report).unlink(missing_ok=True)  # no other run's numbers
    command = [str(build / "bin" / "dai_launch"), "--standalone",
               "--nproc-per-node", str(RANKS),
               str(build / "bin" / "ch03_ddp_train"), "--model", MODEL,
               "--microbatches", str(RANKS), "--microbatch-size", "1",
               "--window", str(WINDOW), "--steps", "36", "--save-every", "6",
               "--validation-windows", "2", "--checkpoint-dir", folder,
               "--json", report, *how]
    # Thirty-six steps of so small a batch learn nothing that a check asks for.
    subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, OMP_NUM_THREADS="1"))
    found = json.loads(pathlib.Path(report).read_text())["metrics"]
    if found["checkpoints_saved"] != 6:
        sys.exit(f"not six checkpoints: {shown(command)}")
    return found["checkpoint_stall_ms"], command


def save_row(build, versions, runs=7):
    folder = str(build / "ch03_bench_saves")
    behind, front = [], []
    for run in range(runs):
        for into, how in ((behind, ()), (front, ("--save-in-the-foreground",))):
            stall, command = saving(build, how, folder)
            into.append(stall)
            print(f"save {run + 1}/{runs} {' '.join(how)}: stall "
                  f"{stall:.1f} ms", file=sys.stderr)
    shutil.rmtree(folder)
    words = shown(command).split()
    foreground = " ".join(words)
    words.remove("--save-in-the-foreground")
    return {"name": "save_stall_vs_foreground", "peer": "ours, foreground",
            "metric": "training stands still for a checkpoint", "unit": "ms",
            "ours": statistics.median(behind),
            "theirs": statistics.median(front),
            "ratio": statistics.median(front) / statistics.median(behind),
            "ci95": bootstrap(behind, front), "samples": runs,
            "ours_cmd": " ".join(words), "theirs_cmd": foreground,
            "versions": versions, "threads": 1, "ranks": RANKS}


def peak_memory(label, command, runs=7):
    """Of rank 0, in MiB, each time anew."""
    held = []
    for _ in range(runs):
        program = Program(label, command)
        if "--rung" in command:
            program.answer()
        program.train(WARMUP, keep=False)
        program.end()
        held.append(program.peak_rss_bytes / 2**20)
    print(f"{label}: {statistics.median(held):.0f} MiB", file=sys.stderr)
    return held


def tuned_row(build, versions):
    """The explorer's own judgement of its choice, on two slow-linked nodes."""
    cluster = str(ROOT / "scripts" / "vcluster")
    report = str(build / "ch03_bench_tuned.json")
    command = [cluster, "-N", "2", "--rate", "4gbit", cluster, "each",
               str(build / "bin" / "dai_launch"), "--nnodes", "2",
               "--node-rank", "{}", "--nproc-per-node", "1",
               "--rdzv-endpoint", "{first}:29400",
               str(build / "bin" / "ch03_bucket_explorer"), "--json", report]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    found = json.loads(pathlib.Path(report).read_text())["metrics"]
    mine, other = (found[f"confirm_{who}_step_ms"]
                   for who in ("tuned", "default"))
    return {"name": "ddp_tuned_buckets_2n_4gbit",
            "peer": "ours, 1 and 25 MiB", "metric": "training step",
            "unit": "ms", "ours": mine, "theirs": other,
            "ratio": found["tuned_default_ratio"],
            "ci95": [found["tuned_default_ratio_low"],
                     found["tuned_default_ratio_high"]],
            "samples": int(found["confirm_samples"]),
            "ours_cmd": shown(command), "theirs_cmd": shown(command),
            "versions": versions, "threads": 1, "ranks": 2}


def row(name, metric, unit, us, theirs, mine, other, versions, ranks=RANKS):
    a, b = statistics.median(mine), statistics.median(other)
    return {"name": name, "peer": theirs.label, "metric": metric,
            "unit": unit, "ours": a, "theirs": b, "ratio": b / a,
            "ci95": bootstrap(mine, other), "samples": len(mine),
            "ours_cmd": shown(us.command), "theirs_cmd": shown(theirs.command),
            "versions": versions, "threads": 1, "ranks": ranks}


def show(rows):
    show_rows(rows, digits=1)
    v = rows[0]["versions"]
    print(f"{v['date']}, {v['cpu']}, torch {v['torch']}, 2 ranks (4r: 4) of one "
          "thread on 2 cores")


PARTS = ("steps", "ranks", "memory", "watch", "save", "tuned")


class Measure:
    """A method a part; each returns its rows."""

    def __init__(self, options):
        self.turns, self.steps_of_turn = options.turns, options.steps
        self.starts = options.starts
        self.build = ROOT / "build" / os.environ.get("DAI_PRESET", "cpu")
        self.windows = str(self.build / "ch03_bench_windows.i32")
        self.versions = json.loads(subprocess.check_output(
            [str(ROOT / ".deps/venv/bin/python"), "-c",
             "import torch, json, sys; print(json.dumps({'torch': "
             "torch.__version__, 'python': sys.version.split()[0]}))"],
            text=True))
        self.versions.update(cpu=cpu_model(), date=time.strftime("%Y-%m-%d"))

    def over(self, company, *words):
        return over_starts(self.starts, lambda start: company(
            self.build, *words, self.turns, self.steps_of_turn, start))

    def step(self, name, us, theirs, factor=1, ranks=RANKS):
        metric = "training step" + (" times ranks" if factor > 1 else "")
        return row(name, metric, "ms", us, theirs,
                   [factor * ms for ms in us.starts], theirs.starts,
                   self.versions, ranks)

    def steps(self):
        of = self.over(against_pytorch, self.windows)
        return [self.step(name, of[us], of[theirs]) for name, us, theirs in (
            ("ddp_step_2r_gloo_vs_pytorch", "gloo", "eager"),
            ("ddp_step_2r_dai_vs_pytorch", "dai", "eager"),
            ("ddp_step_2r_dai_vs_pytorch_kept", "dai", "kept"),
            ("ddp_step_2r_fused_vs_pytorch", "fused", "eager"),
            ("ddp_step_2r_fused_vs_compile", "fused", "compile"),
            ("ddp_weak_scaling_2r", "dai", "alone"))]

    def ranks(self):
        of = self.over(of_more_and_fewer_ranks, self.windows)
        return [self.step("ddp_strong_scaling_2r", of["dai"], of["whole"],
                          factor=RANKS),
                self.step("ddp_step_4r_gloo_vs_pytorch", of["gloo4"],
                          of["eager4"], ranks=4)]

    def memory(self):
        mine = Program("ours, naive rung, gloo",
                       ours(self.build, "naive", "gloo", "--windows-out",
                            self.windows, "--steps", str(WARMUP)))
        sizes = mine.answer()["decoder"]
        mine.end()
        theirs = Measured(mine)
        theirs.label = "pytorch eager, gloo"
        theirs.command = peer("eager", sizes, self.windows)
        us = Measured(mine)
        us.command = ours(self.build, "naive", "gloo")
        return [row("ddp_rss_2r_vs_pytorch", "peak resident memory", "MiB",
                    us, theirs, peak_memory(us.label, us.command),
                    peak_memory(theirs.label, theirs.command), self.versions)]

    def watch(self):
        of = self.over(watched)
        return [self.step("watch_step_vs_off", of["watched"], of["off"])]

    def save(self):
        return [save_row(self.build, self.versions)]

    def tuned(self):
        return [tuned_row(self.build, self.versions)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json")
    parser.add_argument("--show", metavar="FILE", help="print rows, no more")
    parser.add_argument("--parts", default=",".join(PARTS),
                        help="of " + ", ".join(PARTS))
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--turns", type=int, default=2, help="of a start")
    parser.add_argument("--steps", type=int, default=5, help="of a turn")
    a = parser.parse_args()
    if a.show:
        show(json.loads(pathlib.Path(a.show).read_text())["rows"])
        return
    if not a.json:
        parser.error("--json FILE or --show FILE")
    if a.starts < 7:
        parser.error("fewer than 7 starts are no result")
    parts = a.parts.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--parts {a.parts}: there are {', '.join(PARTS)}")
    before = []
    if parts != list(PARTS):
        before = json.loads(pathlib.Path(a.json).read_text())["rows"]
    open(a.json + ".new", "w", encoding="utf-8").close()  # before the work
    measure = Measure(a)
    rows = [row for part in parts for row in getattr(measure, part)()]
    new = {row["name"]: row for row in rows}
    rows = [new.pop(row["name"], row) for row in before] + list(new.values())
    with open(a.json + ".new", "w", encoding="utf-8") as file:
        json.dump({"schema": 1, "rows": rows}, file, indent=1)
    os.replace(a.json + ".new", a.json)
    show(rows)


if __name__ == "__main__":
    main()
