#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chapter 2's collectives against Gloo (in LibTorch) and Open MPI.

Both of a pair run in turns, each turn a process group of its own, so that what
slows the machine slows both. A ratio is theirs / ours of the medians over all
turns, above 1 where ours is better; its interval draws neighbouring turns as
pairs. Every run checks its own results, or there is no row. float32, sums, in
place (reduce_scatter: out of place).

Against Gloo both go through c10d, as a training program does: its thread and
its queue count on both sides, and so does the same TCP where the name says so.
Against Open MPI both are called directly: MPI_Allreduce by the thread that
wants it (peers/openmpi_all_reduce.c), over the shared memory that Open MPI
chooses. `canonical` sums 12 microbatches, of which each rank has added up its
own subtrees: two of them are shipped, 1.5 times an all_reduce's bytes.

Bars are for 2 ranks; 4 ranks on 2 cores show scheduling as much as anything.

  scripts/book bench ch02 --json FILE
  ch02_hardware/bench/bench.py --show FILE      its rows as a table
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
from bench_rows import bootstrap, cpu_model, shown  # noqa: E402

BUILD = ROOT / "build" / os.environ.get("DAI_PRESET", "cpu")
KIB, MIB = 1024, 1024 * 1024
# Enough for a tenth of a second or so, after caches and windows are warm.
ROUNDS = {KIB: (3000, 500), MIB: (200, 20), 16 * MIB: (20, 3),
          64 * MIB: (8, 2)}
# A thread of c10d's that is woken for each operation takes its time.
C10D_ROUNDS = {**ROUNDS, KIB: (300, 50), MIB: (100, 20)}


def environment(**more):
    return dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                OMPI_MCA_rmaps_base_oversubscribe="1", **more)


class Perf:
    """ch02_collective_perf with some options, at one size."""

    def __init__(self, label, ranks, size, *options, collective="all_reduce",
                 medium=None):
        through_c10d = "direct" not in options
        rounds, warm_up = (C10D_ROUNDS if through_c10d else ROUNDS)[size]
        self.label = label
        self.collective = collective
        self.half = "out_of_place" if collective == "reduce_scatter" \
            else "in_place"
        self.env = environment(**({"DAI_MEDIUM": medium} if medium else {}))
        self.command = [
            str(BUILD / "bin/dai_launch"), "--standalone", "--nproc-per-node",
            str(ranks), str(BUILD / "bin/ch02_collective_perf"),
            "--collective", collective, "-b", str(size), "-e", str(size),
            "-n", str(rounds), "-w", str(warm_up), *options]
        self.shown = (f"DAI_MEDIUM={medium} " if medium else "") + \
            shown(self.command)

    def time_us(self):
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "report.json")
            ran = subprocess.run([*self.command, "--json", str(report)],
                                 env=self.env, capture_output=True, text=True)
            if ran.returncode:
                sys.exit(f"{self.shown}\n{ran.stdout}{ran.stderr}")
            result = json.loads(report.read_text())
        if result["check"] != "ok":
            sys.exit(f"{self.shown}: check {result['check']}")
        return result["tables"][self.collective][0][self.half]["time_us"]


class OpenMpi:
    label = "openmpi"
    version = "unknown"

    def __init__(self, ranks, size):
        rounds, warm_up = ROUNDS[size]
        self.command = ["mpirun", "-n", str(ranks),
                        str(BUILD / "peers/openmpi_all_reduce"), str(size),
                        str(rounds), str(warm_up)]
        self.shown = shown(self.command)

    def time_us(self):
        ran = subprocess.run(self.command, env=environment(),
                             capture_output=True, text=True)
        if ran.returncode:
            sys.exit(f"{self.shown}\n{ran.stdout}{ran.stderr}")
        answer = json.loads(ran.stdout)
        OpenMpi.version = answer["version"]
        return answer["time_us"]


def build_peer():
    peer = BUILD / "peers/openmpi_all_reduce"
    peer.parent.mkdir(exist_ok=True)
    subprocess.run(["mpicc", "-O2", "-o", str(peer), str(
        ROOT / "ch02_hardware/peers/openmpi_all_reduce.c")], check=True)


def comparisons():
    """(name, ours, theirs, ranks)."""
    def ours(ranks, size, medium, **more):
        return Perf("dai", ranks, size, "--backend", "dai", "--via", "c10d",
                    medium=medium, **more)

    def gloo(ranks, size, **more):
        return Perf("gloo", ranks, size, "--backend", "gloo", **more)

    def direct(ranks, size, *more):
        return Perf("dai", ranks, size, "--backend", "dai", "--via", "direct",
                    "--medium", "shm", *more)

    for ranks, tcp_sizes, shm_sizes in (
            (2, (KIB, MIB, 64 * MIB), (KIB, MIB, 16 * MIB, 64 * MIB)),
            (4, (KIB, MIB, 16 * MIB), (KIB, MIB, 16 * MIB))):
        for size in tcp_sizes:
            yield (f"all_reduce_tcp_{ranks}r_{size}_vs_gloo",
                   ours(ranks, size, "tcp"), gloo(ranks, size), ranks)
        for size in shm_sizes:
            yield (f"all_reduce_shm_{ranks}r_{size}_vs_openmpi",
                   direct(ranks, size), OpenMpi(ranks, size), ranks)
    yield (f"all_reduce_shm_2r_{64 * MIB}_vs_gloo",
           ours(2, 64 * MIB, "shm"), gloo(2, 64 * MIB), 2)
    scatter = {"collective": "reduce_scatter"}
    for medium in ("tcp", "shm"):
        yield (f"reduce_scatter_{medium}_2r_{16 * MIB}_vs_gloo",
               ours(2, 16 * MIB, medium, **scatter),
               gloo(2, 16 * MIB, **scatter), 2)
    canonical = direct(2, 16 * MIB, "--algorithm", "canonical")
    yield (f"canonical_shm_2r_{16 * MIB}_vs_gloo_all_reduce", canonical,
           gloo(2, 16 * MIB), 2)
    yield (f"canonical_shm_2r_{16 * MIB}_vs_fixed_point", canonical,
           direct(2, 16 * MIB, "--algorithm", "fixed_point"), 2)


def show(path):
    rows = json.loads(pathlib.Path(path).read_text())["rows"]
    print(f"{'row':<45} {'ours (us)':>10} {'theirs':>10} {'ratio':>6}  95 %")
    for r in rows:
        low, high = r["ci95"]
        print(f"{r['name']:<45} {r['ours']:>10.1f} {r['theirs']:>10.1f} "
              f"{r['ratio']:>6.2f}  [{low:.2f}, {high:.2f}]")
    versions = rows[-1]["versions"]
    print(f"{versions['date']}, {versions['cpu']}, torch {versions['torch']}, "
          f"{versions['mpi']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--json")
    what.add_argument("--show", metavar="FILE")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--only", default="", help="rows with this in the name")
    a = parser.parse_args()
    if a.show:
        return show(a.show)
    if a.turns < 7:
        parser.error("fewer than 7 turns are no result")
    open(a.json + ".new", "w", encoding="utf-8").close()  # before the work
    build_peer()
    torch = subprocess.check_output(
        [str(ROOT / ".deps/venv/bin/python"), "-c",
         "import torch; print(torch.__version__)"], text=True).strip()
    rows = []
    for name, ours, theirs, ranks in comparisons():
        if a.only not in name:
            continue
        mine, other = [], []
        for turn in range(a.turns):
            pair = [(ours, mine), (theirs, other)]
            for program, times in pair if turn % 2 == 0 else pair[::-1]:
                times.append(program.time_us())
        low, high = bootstrap(mine, other)
        first, second = statistics.median(mine), statistics.median(other)
        rows.append({
            "name": name, "peer": theirs.label, "metric": "time",
            "unit": "us", "ours": first, "theirs": second,
            "ratio": second / first, "ci95": [low, high],
            "samples": len(mine), "ours_cmd": ours.shown,
            "theirs_cmd": theirs.shown,
            "versions": {"torch": torch, "mpi": "",
                         "cpu": cpu_model(), "date": time.strftime("%Y-%m-%d")},
            "threads": ranks})
        print(f"{name}: {first:.1f} against {second:.1f} us, ratio "
              f"{second / first:.2f} [{low:.2f}, {high:.2f}]", flush=True)
    for row in rows:  # known once it has run
        row["versions"]["mpi"] = OpenMpi.version
    with open(a.json + ".new", "w", encoding="utf-8") as file:
        json.dump({"schema": 1, "rows": rows}, file, indent=1)
    os.replace(a.json + ".new", a.json)


if __name__ == "__main__":
    main()
