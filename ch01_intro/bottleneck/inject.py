#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts a command and starves it of one resource, from outside.

  inject.py KIND [--seed N] [--rank R] [--when REGEX] -- COMMAND...

  none            nothing is done to it
  slow-reader     what feeds its named pipes slows down to a fraction
  stopped-rank    one rank gets SIGSTOP and SIGCONT, over and over
  cache-thrasher  a neighbour writes more than the caches hold, on and on
  slow-link       its network passes a token bucket (tc tbf)

The disturbance begins when COMMAND prints a line that matches --when, at once
without it, and lasts until COMMAND ends, whose exit code is returned. How hard
it is follows from --seed; 1 where no line matched. COMMAND knows nothing of it:

  inject.py stopped-rank --when watching -- \\
      scripts/book run ch01_find_bottleneck -n 2
  inject.py slow-reader --when watching -- \\
      scripts/book run ch01_find_bottleneck -n 2 -- --input {feed}

{feed} becomes the path of named pipes, one a rank ("{rank}" in it is COMMAND's
business), which this script fills with text. slow-link runs COMMAND in a
network namespace of its own with nothing but loopback in it, as root or in a
user namespace; it needs `ip`, `tc` (Debian: iproute2) and `unshare`.

Exit codes of its own: 2 wrong usage, 77 not possible here, with one line why.
"""
import argparse
import array
import collections
import contextlib
import fcntl
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time

RANKS = 8  # that can be fed
RECORD, AHEAD = 64, 256  # bytes that a feed writes at once, and keeps ready
RANK_NAMES = ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
INSIDE = "DAI_INJECT_INSIDE"  # set when we are in the namespace already


def say(text):
    print(f"[inject] {text}", file=sys.stderr, flush=True)


def give_up(code, text):
    print(f"inject.py: {text}", file=sys.stderr, flush=True)
    sys.exit(code)


class Nothing:
    """The base of all: prepare() before the command starts, begin() when the
    disturbance starts, end() when the command is gone."""

    def __init__(self, args, draw):
        self.args, self.draw = args, draw

    def prepare(self, command):
        return command

    def begin(self, process):
        say("nothing is done")

    def end(self):
        pass


class Feed(Nothing):
    """Fills named pipes; without a limit, as fast as they are read."""

    def __init__(self, args, draw):
        super().__init__(args, draw)
        self.folder, self.history, self.slow = None, {}, {}
        self.fraction = draw.uniform(0.25, 0.45)

    def prepare(self, command):
        if not any("{feed}" in word for word in command):
            return command
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="feed."))
        text = ("It was a bright day, and the readers of the pipe had plenty "
                "to read. ").encode() * 64
        for rank in range(RANKS):
            os.mkfifo(self.folder / f"feed.{rank}")
            threading.Thread(target=self.fill, args=(rank, text),
                             daemon=True).start()
        path = str(self.folder / "feed.{rank}")
        return [word.replace("{feed}", path) for word in command]

    def fill(self, rank, text):
        """Never more than AHEAD bytes in the pipe: it is the reader's need
        that sets the pace, not a store that was filled before."""
        with contextlib.suppress(OSError):
            with open(self.folder / f"feed.{rank}", "wb", buffering=0) as pipe:
                sent, waiting = 0, array.array("i", [0])
                history = collections.deque(maxlen=1024)
                self.history[rank] = history
                while True:
                    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
                    if waiting[0] > AHEAD - RECORD:
                        time.sleep(0.001)
                        continue
                    at = sent % (len(text) // 2)
                    pipe.write(text[at:at + RECORD])
                    sent += RECORD
                    history.append((time.monotonic(), sent))
                    if rank in self.slow:
                        time.sleep(RECORD / self.slow[rank])

    def rate(self, rank):
        """Bytes a second that the command took lately."""
        now = time.monotonic()
        lately = [one for one in self.history[rank] if now - one[0] < 1.5]
        if len(lately) < 2:
            return None
        return (lately[-1][1] - lately[0][1]) / (now - lately[0][0])


class SlowReader(Feed):
    def prepare(self, command):
        ready = super().prepare(command)
        if self.folder is None:
            give_up(2, "slow-reader: COMMAND must read {feed}")
        return ready

    def begin(self, process):
        fed = sorted(rank for rank in self.history if self.rate(rank))
        if self.args.rank is not None:
            fed = [rank for rank in fed if rank == self.args.rank]
        for rank in fed:
            self.slow[rank] = self.rate(rank) * self.fraction
        say(f"the readers of ranks {fed} now deliver {100 * self.fraction:.0f}"
            " % of what the job took before")


class StoppedRank(Nothing):
    def __init__(self, args, draw):
        super().__init__(args, draw)
        self.period_s = draw.uniform(0.03, 0.08)
        self.share = draw.uniform(0.45, 0.65)
        self.pick = draw.random()
        self.pid, self.done = None, threading.Event()

    def begin(self, process):
        ranks = ranks_below(process.pid)
        if not ranks:
            ranks = {0: process.pid}
        rank = self.args.rank
        if rank is None:
            rank = sorted(ranks)[int(self.pick * len(ranks))]
        if rank not in ranks:
            say(f"no process of rank {rank}, only {sorted(ranks)}")
            return
        self.pid = ranks[rank]
        say(f"rank {rank} (pid {self.pid}) is stopped for "
            f"{1e3 * self.period_s * self.share:.0f} of every "
            f"{1e3 * self.period_s:.0f} ms")
        self.thread = threading.Thread(target=self.cycle)
        self.thread.start()

    def cycle(self):
        try:
            while not self.done.is_set():
                os.kill(self.pid, signal.SIGSTOP)
                time.sleep(self.period_s * self.share)
                os.kill(self.pid, signal.SIGCONT)
                time.sleep(self.period_s * (1 - self.share))
        except ProcessLookupError:
            pass

    def end(self):
        self.done.set()
        if self.pid is not None:
            self.thread.join()


class CacheThrasher(Nothing):
    """A neighbour on a core of its own, which it keeps busy from the start, so
    that what changes at begin() is the memory alone. Leave it a core: where
    the ranks fill all of them it starves them of those. It takes the job's L3
    cache, where they share one; a virtual machine may have cores of two."""

    def __init__(self, args, draw):
        super().__init__(args, draw)
        self.megabytes = draw.choice((48, 64, 80, 96))
        self.process = None

    def prepare(self, command):
        self.process = subprocess.Popen(
            [sys.executable, "-c", THRASHER, str(self.megabytes)],
            stdout=subprocess.PIPE, env={**os.environ, **THROUGH_CACHES})
        self.process.stdout.readline()  # its memory is there
        return command

    def begin(self, process):
        say(f"a neighbour (pid {self.process.pid}) writes {self.megabytes} MB "
            "over and over")
        self.process.send_signal(signal.SIGUSR1)

    def end(self):
        self.process.kill()
        self.process.wait()


# The C library writes large pieces past the caches unless told not to.
THROUGH_CACHES = {"GLIBC_TUNABLES": ":".join(
    f"glibc.cpu.x86_{name}_threshold=0x7fffffff"
    for name in ("rep_stosb", "rep_movsb"))}
THRASHER = """
import ctypes, os, signal, sys
size, piece = int(sys.argv[1]) << 20, 256 << 10
memory = ctypes.create_string_buffer(b"x" * size)
start, copying = ctypes.addressof(memory), []
signal.signal(signal.SIGUSR1, lambda *_: copying.append(1))
print("ready", flush=True)
while os.getppid() > 1:
    if copying:
        for at in range(0, size, piece):
            ctypes.memset(start + at, 1, piece)
"""


class SlowLink(Nothing):
    def __init__(self, args, draw):
        super().__init__(args, draw)
        self.mbit = round(draw.uniform(60, 160))

    def prepare(self, command):
        run("ip", "link", "set", "lo", "mtu", "1500", "up")
        return command

    def begin(self, process):
        run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate",
            f"{self.mbit}mbit", "burst", "32kb", "latency", "200ms")
        say(f"the link now carries {self.mbit} Mbit/s")


KINDS = {"none": Feed, "slow-reader": SlowReader, "stopped-rank": StoppedRank,
         "cache-thrasher": CacheThrasher, "slow-link": SlowLink}


def run(*command):
    done = subprocess.run(command, text=True, stderr=subprocess.PIPE)
    if done.returncode:
        give_up(77, f"{' '.join(command)}: {done.stderr.strip()}")


def enter_namespace():
    """Starts this script again, where the network is our own."""
    for tool in ("ip", "tc", "unshare"):
        if shutil.which(tool) is None and not pathlib.Path(
                "/usr/sbin", tool).exists():
            give_up(77, f"slow-link needs {tool} (Debian: iproute2, "
                        "util-linux)")
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    unshare = ["unshare", "--net"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL,
                      check=False).returncode:
        give_up(77, "slow-link: no network namespace of our own "
                    f"({' '.join(unshare)} is not allowed here)")
    os.execvpe("unshare", [*unshare, sys.executable, *sys.argv],
               {**os.environ, "PATH": path, INSIDE: "1"})


def ranks_below(pid):
    """{rank: pid} of the innermost processes that carry a rank's number."""
    parents, names = {}, {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            environ = (folder / "environ").read_bytes().split(b"\0")
            parents[int(folder.name)] = int(stat[1])
            names[int(folder.name)] = dict(
                pair.decode(errors="replace").split("=", 1)
                for pair in environ if b"=" in pair)

    def descends(child):
        while child > 1:
            if child == pid:
                return True
            child = parents.get(child, 0)
        return False

    found = {}
    for child, environ in names.items():
        rank = next((environ[n] for n in RANK_NAMES if n in environ), None)
        has_children = child in parents.values()
        if rank is not None and not has_children and descends(child):
            found[int(rank)] = child
    return found


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, usage=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--rank", type=int,
                        help="whom it hits; default: the seed's choice")
    parser.add_argument("--when", metavar="REGEX",
                        help="begin at the line that matches")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:at])
    try:
        re.compile(args.when or "")
    except re.error as error:
        parser.error(f"--when {args.when!r}: {error}")
    if not sys.argv[at + 1:]:
        parser.error("a command is expected after --")
    return args, sys.argv[at + 1:]


def main():
    args, command = arguments()
    if args.kind == "slow-link" and INSIDE not in os.environ:
        enter_namespace()
    os.environ.pop(INSIDE, None)
    kind = KINDS[args.kind](args, random.Random(f"{args.kind} {args.seed}"))
    command = kind.prepare(command)
    try:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE,
                                       text=True)
        except OSError as error:
            give_up(2, f"{command[0]}: {error.strerror}")
        began = args.when is None
        if began:
            kind.begin(process)
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if not began and re.search(args.when, line):
                began = True
                kind.begin(process)
        process.wait()
        if not began:
            say(f"no line matched {args.when!r}: nothing was done")
            return process.returncode or 1
        return process.returncode if process.returncode >= 0 else 1
    finally:
        kind.end()
        if getattr(kind, "folder", None):
            shutil.rmtree(kind.folder)


if __name__ == "__main__":
    sys.exit(main())
