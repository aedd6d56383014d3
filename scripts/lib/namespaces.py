# SPDX-License-Identifier: Apache-2.0
"""What scripts/vcluster and scripts/slurm_lab share: a command that runs as
the first process of namespaces of its own, and is gone with the script.

  outside:  code = run_outside(["unshare", ..., SELF, "--inside", ...])
  inside:   code = run_inside(["the", "reader's", "command"], environment)
"""
import contextlib
import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading

END_FD = "DAI_END_FD"  # names the descriptor on which the end is called


class Refused(Exception):
    """One line, and exit code 2."""


class CannotRun(Exception):
    """One line, and exit code 77."""


@contextlib.contextmanager
def scratch_folder(prefix):
    """A folder below /tmp for one run (its path is short: sockets lie there).
    It is gone afterwards; where its owner was killed, with the next run."""
    for old in pathlib.Path("/tmp").glob(prefix + "*"):
        with contextlib.suppress(OSError), open(old / "lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp") as folder:
        path = pathlib.Path(folder)
        with open(path / "lock.new", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (path / "lock.new").rename(path / "lock")  # held when it appears
            yield folder


def die_with_parent():
    """For the child: SIGKILL when the parent is gone, however it went."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def shell_code(code):
    return code if code >= 0 else 128 - code


def run_outside(command, environment=None):
    """Runs `command`, which ends in run_inside(). Who ends this process means
    that one; `unshare`, which stands between, takes no SIGTERM."""
    end, call_end = os.pipe()
    child = subprocess.Popen(
        command, preexec_fn=die_with_parent, pass_fds=[end],
        env={**(environment or os.environ), END_FD: str(end)})
    os.close(end)
    # The child hears Ctrl-C by itself.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: os.write(call_end, b"."))
    return shell_code(child.wait())


def run_inside(command, environment):
    """Runs `command` to its end, and buries the orphans of the namespace."""
    environment = dict(environment)
    end = int(environment.pop(END_FD))
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise Refused(f"{command[0]}: {error.strerror}") from error
    # Ctrl-C means the whole group: passed on, it would be heard twice.
    signal.signal(signal.SIGINT, lambda *_: None)

    def hear_the_end():
        while os.read(end, 1):
            child.terminate()

    threading.Thread(target=hear_the_end, daemon=True).start()
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return shell_code(os.waitstatus_to_exitcode(status))
