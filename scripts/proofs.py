#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the tour's table of proofs from what the stops left behind.

  proofs.py FOLDER    FOLDER/stops.tsv and one N.json per stop (app contract)

A stop counts as proved only if its app exited 0 and its JSON holds at least
one check and every check is ok. Exit code: 0, 1 (a stop is not proved), 77
(no stop could run on this machine).
"""
import json
import os
import sys


def number(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def read_stop(folder, line):
    """One stop as (rows, verdict), verdict: ok, FAILED or skipped."""
    index, chapter, _title, code, seconds, _planned = line.split("\t")
    path = os.path.join(folder, index + ".json")
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except FileNotFoundError:
        report = None
    except ValueError as error:
        return [(chapter, f"its --json cannot be read: {error}", "", "",
                 "FAILED", seconds)], "FAILED"
    if code == "77":
        with open(os.path.join(folder, index + ".log"),
                  encoding="utf-8", errors="replace") as file:
            lines = [text.strip() for text in file if text.strip()]
        return [(chapter, lines[-1] if lines else "cannot run here", "", "",
                 "skipped", seconds)], "skipped"
    if report is None or not report.get("checks"):
        what = "wrote no --json" if report is None else "made no check"
        return [(chapter, f"the app {what} (exit code {code})", "", "",
                 "FAILED", seconds)], "FAILED"
    rows, verdict = [], "ok"
    for position, check in enumerate(report["checks"]):
        good = check.get("ok") is True
        if not good:
            verdict = "FAILED"
        rows.append((chapter if position == 0 else "", check["name"],
                     number(check.get("value")),
                     number(check.get("tolerance")),
                     "ok" if good else "FAILED",
                     seconds if position == 0 else ""))
    if verdict == "ok" and (code != "0" or report.get("check") != "ok"):
        verdict = "FAILED"
        rows.append(("", f"the app's own verdict: {report.get('check')}, "
                     f"exit code {code}", "", "", "FAILED", ""))
    return rows, verdict


def main(folder):
    table = [("stop", "what was proved", "value", "tolerance", "check", "s")]
    verdicts = []
    with open(os.path.join(folder, "stops.tsv"), encoding="utf-8") as file:
        for line in file:
            rows, verdict = read_stop(folder, line.rstrip("\n"))
            table += rows
            verdicts.append(verdict)
    widths = [max(len(row[i]) for row in table) for i in range(6)]
    for position, row in enumerate(table):
        cells = [row[i].rjust(widths[i]) if i in (2, 3, 5)
                 else row[i].ljust(widths[i]) for i in range(6)]
        print("  ".join(cells).rstrip())
        if position == 0:
            print("  ".join("-" * width for width in widths))
    counts = {v: verdicts.count(v) for v in ("ok", "FAILED", "skipped")}
    print(f"\n{counts['ok']} of {len(verdicts)} stops proved"
          + (f", {counts['FAILED']} FAILED" if counts["FAILED"] else "")
          + (f", {counts['skipped']} cannot run here"
             if counts["skipped"] else ""))
    if counts["FAILED"]:
        return 1
    return 0 if counts["ok"] else 77


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
