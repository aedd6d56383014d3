# SPDX-License-Identifier: Apache-2.0
"""Namespaces for tests: a machine's network, mounts and name of one's own.

  command = unshare_command()     # ["unshare", ...]; raises RuntimeError
  subprocess.run([*command, "--net", "--mount", "sh", "-c", script])

Works as root, as root in a chroot, and as a user who may create user
namespaces. What is mounted inside is not seen outside.
"""
import os
import pathlib
import subprocess
import tempfile


def _run(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, check=False)


def _mounts_stay_inside(command):
    """By trial: mounts a file system inside and looks from outside."""
    with tempfile.TemporaryDirectory(prefix="namespaces.") as folder:
        ran = _run(*command, "--mount", "mount", "-t", "tmpfs", "tmpfs",
                   folder)
        leaked = pathlib.Path(folder).is_mount()
        if leaked:
            _run("umount", folder)
        return ran.returncode == 0 and not leaked


def unshare_command():
    root = os.geteuid() == 0
    command = ["unshare"] + ([] if root else ["--user", "--map-root-user"])
    ran = _run(*command, "--uts", "--mount", "--net", "true")
    if ran.returncode == 0:
        return command
    # In a chroot "/" is no mount point, so unshare cannot make it private.
    # Where it is private already there is nothing to make.
    unchanged = [*command, "--propagation", "unchanged"]
    if root and _mounts_stay_inside(unchanged):
        return unchanged
    raise RuntimeError("this test needs root or user namespaces "
                       f"({' '.join(command)}): {ran.stderr.strip()}")
