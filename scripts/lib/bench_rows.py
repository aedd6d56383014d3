# SPDX-License-Identifier: Apache-2.0
"""What the chapters' benches share: how a row is counted."""
import pathlib
import random
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[2]


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


def show_rows(rows, digits):
    """The table of a chapter's README."""
    print(f"{'row':<32} {'ours':>9} {'theirs':>9} {'':<4} ratio  95 %")
    for r in rows:
        print(f"{r['name']:<32} {r['ours']:>9.{digits}f} "
              f"{r['theirs']:>9.{digits}f} {r['unit']:<4} {r['ratio']:>5.2f}  "
              "[{:.2f}, {:.2f}]".format(*r["ci95"]))


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ", 1)[1]
    return "unknown"


def shown(command):
    return " ".join(str(word).replace(str(ROOT) + "/", "") for word in command)
