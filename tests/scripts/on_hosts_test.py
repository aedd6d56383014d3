#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`scripts/book run --hosts`: ssh to a real server on each node of a cluster
(Debian's dropbear, which is a program and no service). Good runs compute the
losses of every other launcher; a host that cannot be reached, whose clock is
wrong or whose build is another one is named before anything is trained.

As root, in a cluster's own mounts: there the user's home is a folder of the
test, and the login shell puts the fault into one node alone.
"""
import json
import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
# pylint: disable=wrong-import-position
from support.many_nodes import (  # noqa: E402
    BIN, BOOK, NAME, QUICK, SCRIPTS, VCLUSTER, ManyNodes, main, script)

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
SELFCHECK = BIN / "ch01_selfcheck"


class OnHosts(ManyNodes):
    def setUp(self):
        super().setUp()
        self.env["PATH"] = PATH
        home = self.dir / "home"
        self.ssh = home / ".ssh"
        self.ssh.mkdir(parents=True)
        home.chmod(0o700)
        self.ssh.chmod(0o700)

    def keys(self, nodes):
        """The user's key, the servers' own, and who trusts whom."""
        for path in (self.ssh / "id_ed25519", self.dir / "host_key"):
            self.run_it("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                        path)
        self.run_it("dropbearconvert", "openssh", "dropbear",
                    self.dir / "host_key", self.dir / "dropbear_key")
        shutil.copy(self.ssh / "id_ed25519.pub", self.ssh / "authorized_keys")
        public = (self.dir / "host_key.pub").read_text().split()
        names = ",".join(f"node-{i + 1}" for i in range(nodes))
        (self.ssh / "known_hosts").write_text(
            f"{names} {public[0]} {public[1]}\n")

    def cluster(self, *lines, nodes=2, fault=""):
        """Shell lines at the head of a cluster of ssh servers; the words in
        `fault` stand before what is run on node-2."""
        self.keys(nodes)
        shell = self.dir / "shell"
        shell.write_text(
            "#!/bin/sh\n[ $(hostname) = node-2 ] || exec /bin/sh \"$@\"\n"
            f"exec {fault} /bin/sh \"$@\"\n")
        shell.chmod(0o755)
        users = pathlib.Path("/etc/passwd").read_text().splitlines()
        (self.dir / "passwd").write_text("\n".join(
            f"root:x:0:0::{self.dir}/home:{shell}" if
            line.startswith("root:") else line for line in users) + "\n")
        (self.dir / "shells").write_text(f"/bin/sh\n{shell}\n")
        return (VCLUSTER, "--mode", "root", "-N", str(nodes), *script(
            f"mount --bind {self.dir}/passwd /etc/passwd",
            f"mount --bind {self.dir}/shells /etc/shells",
            f"for i in $(seq {nodes}); do",
            f"  {VCLUSTER} exec $i dropbear -F -E -s -p 22 "
            f"-r {self.dir}/dropbear_key 2>> {self.dir}/sshd.log &", "done",
            f"for i in $(seq {nodes}); do",
            "  for try in $(seq 100); do", "    ssh -o BatchMode=yes node-$i "
            "true 2> ssh.log && continue 2; sleep 0.1", "  done",
            "  cat ssh.log sshd.log >&2; exit 3", "done", *lines), "bash")

    def run_on(self, *words):
        return f"{BOOK} run {' '.join(words)} \"$@\""

    def test_two_and_three_hosts_compute_the_same(self):
        self.equal(4, *self.cluster(self.run_on(
            "-n 2 --hosts root@node-1,node-2")), app=(NAME, "--"), nodes=2)
        shutil.rmtree(self.ssh)
        self.ssh.mkdir(0o700)
        (self.dir / "host_key").unlink()
        (self.dir / "hosts").write_text(
            "# two boxes and one more\nnode-1 slots=1\nnode-2\n\nnode-3\n")
        self.equal(3, *self.cluster(
            self.run_on(f"--hostfile {self.dir}/hosts"), nodes=3),
            app=(NAME, "--"), nodes=3)

    def test_mpirun_goes_over_the_same_ssh(self):
        start = self.cluster(self.run_on("-n 2 --hosts node-1,node-2",
                                         "--launcher mpirun"))
        self.equal(4, *start, app=(NAME, "--"), nodes=2)

    def fails(self, expected, start, *more):
        """The run ends with 1 and says `expected`; nothing was trained."""
        report = self.dir / "report.json"
        ran = self.run_it(*start, NAME, "--", *QUICK, "--json", report)
        self.assertEqual(ran.returncode, 1, ran.shown)
        for pattern in (expected, *more):
            self.assertRegex(ran.out + ran.err, pattern)
        self.assertFalse(report.exists(), ran.shown)
        return ran

    def test_a_host_that_is_not_there_is_named(self):
        self.fails(r"host node-2 cannot be reached by ssh",
                   self.cluster(f"{VCLUSTER} link 2 down",
                                self.run_on("--hosts node-1,node-2")))

    def test_a_host_that_nobody_knows_is_named(self):
        self.fails(r"host node-7 cannot be reached by ssh",
                   self.cluster(self.run_on("--hosts node-1,node-7")))

    def test_a_wrong_clock_is_named_under_ssh_and_mpirun(self):
        wrong = self.cluster(
            self.run_on("-n 1 --hosts node-1,node-2 $LAUNCHER"),
            fault="env DONT_FAKE_MONOTONIC=1 faketime -f +90s")
        for launcher in ("", "--launcher mpirun"):
            with self.subTest(launcher):
                self.env["LAUNCHER"] = launcher
                ran = self.fails(r"FAILED clock: host node-2", wrong,
                                 f"{NAME} was not started")
                self.assertNotIn("FAILED clock: host node-1", ran.out)

    def test_another_build_on_one_host_is_named(self):
        image = SELFCHECK.read_bytes()
        report = self.dir / "version.json"
        self.run_it(SELFCHECK, "--smoke", "--json", report)
        version = json.loads(report.read_text())["version"].encode()
        self.assertIn(b"\0" + version + b"\0", image)
        old = self.dir / "old_build"
        old.write_bytes(image.replace(b"\0" + version + b"\0",
                                      b"\0" + b"9" + version[1:] + b"\0"))
        old.chmod(0o755)
        # Node 2 alone sees it: the fault is a mount of its own.
        mounts = self.dir / "with_old_build"
        mounts.write_text("#!/bin/sh\nexec unshare --mount --propagation "
                          "unchanged /bin/sh -c 'mount --bind "
                          f"{old} {SELFCHECK} && exec \"$@\"' sh \"$@\"\n")
        mounts.chmod(0o755)
        self.fails(r"FAILED versions: host node-2.*program 9", self.cluster(
            self.run_on("--hosts node-1,node-2"), fault=str(mounts)))

    def test_a_signal_ends_all_and_blames_no_host(self):
        # Like ssh, this one answers 255 when it is ended.
        ssh = self.dir / "ssh"
        ssh.write_text("#!/bin/sh\necho begun\ncat >/dev/null\nexit 255\n")
        ssh.chmod(0o755)
        self.env["DAI_SSH"] = str(ssh)
        for hosts, begun in ((2, 2), (60, 1)):  # all there, and hardly begun
            process = self.start(
                SCRIPTS / "on_hosts", "--no-preflight", "--hosts",
                ",".join(f"h{i}" for i in range(hosts)), BIN, NAME)
            for _ in range(begun):
                self.assertEqual(process.stdout.readline(), "begun\n")
            process.terminate()
            self.finish(process, limit=20)
            self.assertEqual(process.returncode, 143, process.shown)
            self.assertNotIn("cannot be reached", process.err)

    def test_no_ssh_is_named(self):
        self.env["DAI_SSH"] = "no-such-ssh"
        self.refuses(77, "there is no no-such-ssh", BOOK, "run", NAME,
                     "--hosts", "a,b")

    def test_wrong_hosts_and_hostfiles_are_one_line(self):
        hosts = self.dir / "hosts"
        for text, expected in (("", "names no host"),
                               ("a\na\n", "a named twice"),
                               ("a slots=2\nb slots=1\n", "slots 1, 2"),
                               ("a slots=0\n", "hosts:1: 'slots=0'"),
                               ("a:b/c\n", "hosts:1: 'a:b/c' is no host"),
                               ("a max-slots=2\n", "hosts:1: 'max-slots=2'")):
            hosts.write_text(text)
            for launcher in ((), ("--launcher", "mpirun")):
                ran = self.refuses(2, expected, BOOK, "run", NAME,
                                   "--hostfile", hosts, *launcher)
                self.assertEqual(len([line for line in ran.err.splitlines()
                                      if line[0] != "+"]), 1, ran.shown)
        self.refuses(2, "No such file", BOOK, "run", NAME, "--hostfile",
                     self.dir / "nowhere")
        self.refuses(2, "'a b' is no host name", BOOK, "run", NAME, "--hosts",
                     "a b,c")


if __name__ == "__main__":
    main([(os.geteuid() == 0, "root, for the mounts of its cluster"),
          (shutil.which("dropbear", path=PATH) and shutil.which("ssh") and
           shutil.which("faketime") or shutil.which("apt-get"),
           "dropbear, ssh and faketime")])
