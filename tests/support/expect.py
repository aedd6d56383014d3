#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command and passes only if it ended as it was expected to.

  expect.py --exit 1 --output 'check: .* FAILED' -- COMMAND [ARG...]

CTest's own PASS_REGULAR_EXPRESSION ignores the exit code; this does not.
"""
import argparse
import re
import subprocess
import sys


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--exit", type=int, required=True)
    parser.add_argument("--output", help="regex that stdout+stderr must hold")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                         stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    print(ran.stdout, end="")
    if ran.returncode != args.exit:
        print(f"expect: exit code {ran.returncode}, expected {args.exit}")
        return 1
    if args.output and not re.search(args.output, ran.stdout, re.MULTILINE):
        print(f"expect: the output does not match {args.output!r}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
