# SPDX-License-Identifier: Apache-2.0
"""How scripts/vcluster makes its nodes: network namespaces on a bridge, each
held by a process that sleeps, with a name, an address and a shaped link.

  words, why = unshare_words("user")     # the cluster's own namespaces, then
  cluster = Cluster(folder, options)     # as their first process
  cluster.start()
  subprocess.run(command, env=cluster.environment())

options: nodes, mode, rate, slow {node: rate}, delay, as parsed by vcluster.
The folder tells the verbs which process holds which node: node-1.pid.
"""
import os
import pathlib
import shlex
import subprocess
import tempfile

from namespaces import CannotRun, die_with_parent

VCLUSTER = pathlib.Path(__file__).resolve().parents[1] / "vcluster"
NETWORK = "10.77.0"


def run(*command):
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                         stderr=subprocess.STDOUT, check=False)
    if ran.returncode:
        raise CannotRun(f"{shlex.join(command)}: {ran.stdout.strip()}")


def unshare_words(mode):
    """What makes the cluster's own namespaces in this mode, or why not."""
    words = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork",
             "--kill-child"]
    if mode == "user":
        words += ["--user", "--map-root-user"]
    # In a chroot there is no mount at / to make private, but there is /proc.
    # Without a /proc of the new namespace a node's pid would mean a process
    # outside, and its network would be changed in the node's place.
    own_proc = ["--propagation", "unchanged", "sh", "-c",
                "mount --make-private /proc && mount -t proc proc /proc && "
                'exec "$@"', "sh"]
    with tempfile.TemporaryDirectory(prefix="vcluster-trial.") as trial:
        for more in (["--mount-proc"], own_proc):
            tried = subprocess.run(
                [*words, *more, "sh", "-c", "[ -e /proc/$$/ns/net ] && "
                 "[ $$ -lt 100 ] && ip link set lo up && ip link add bridge0 "
                 f"type bridge && mount -t tmpfs tmpfs {shlex.quote(trial)}"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                check=False)
            leaked = os.path.ismount(trial)
            if leaked:
                run("umount", trial)
            elif tried.returncode == 0:
                return words + more, ""
    return None, (tried.stdout.strip().split("\n")[0] or
                  "what is mounted inside is seen outside")


class Cluster:
    """The nodes, made by the process that `unshare` started."""

    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.holders = []

    def hosts(self):
        names = "".join(f"{NETWORK}.{i} node-{i}\n"
                        for i in range(1, self.options.nodes + 1))
        path = self.folder / "hosts"
        path.write_text("127.0.0.1 localhost\n::1 localhost\n"
                        f"{NETWORK}.254 head\n{names}")
        return path

    def start(self):
        text = pathlib.Path("/proc/self/net/dev").read_text().splitlines()
        links = {line.split(":")[0].strip() for line in text[2:]} - {"lo"}
        if links:
            raise CannotRun(f"the network has {' '.join(sorted(links))}: not "
                            "a fresh namespace")
        hosts = self.hosts()
        run("mount", "--bind", str(hosts), "/etc/hosts")
        # No name server can be reached: that shall be known at once.
        servers = pathlib.Path("/etc/resolv.conf").resolve()
        if servers.exists():
            nobody = self.folder / "resolv.conf"
            nobody.write_text("nameserver 127.0.0.1\n")
            run("mount", "--bind", str(nobody), str(servers))
        run("hostname", "head")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "bridge0", "type", "bridge")
        run("ip", "addr", "add", f"{NETWORK}.254/24", "dev", "bridge0")
        run("ip", "link", "set", "bridge0", "up")
        for i in range(1, self.options.nodes + 1):
            self.start_node(i)

    def start_node(self, i):
        holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c",
             f"hostname node-{i} && ip link set lo up && echo up && "
             "exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent)
        if holder.stdout.readline().strip() != "up":
            raise CannotRun(f"node-{i} did not come up")
        self.holders.append(holder)
        # Its name says that the pid is the node's and nobody else's.
        asked = subprocess.run(
            ["nsenter", "-t", str(holder.pid), "-u", "hostname"], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        if asked.stdout.strip() != f"node-{i}":
            raise CannotRun(f"process {holder.pid} is not node-{i}: /proc is not "
                          "of this namespace")
        (self.folder / f"node-{i}.pid").write_text(str(holder.pid))
        run("ip", "link", "add", f"port{i}", "type", "veth", "peer", "name",
            "eth0", "netns", str(holder.pid))
        run("ip", "link", "set", f"port{i}", "master", "bridge0", "up")
        inside = ("nsenter", "-t", str(holder.pid), "-n")
        run(*inside, "ip", "addr", "add", f"{NETWORK}.{i}/24", "dev", "eth0")
        run(*inside, "ip", "link", "set", "eth0", "up")
        run(*inside, "ip", "route", "add", "default", "via", f"{NETWORK}.254")
        rate = self.options.slow.get(i, self.options.rate)
        shape(i, holder.pid, rate, self.options.delay)

    def environment(self):
        loopback = self.options.mode == "loopback"
        nodes = range(1, self.options.nodes + 1)
        return {**os.environ,
                "VCLUSTER": str(self.folder), "VCLUSTER_MODE":
                self.options.mode,
                "VCLUSTER_NODES": " ".join(f"node-{i}" for i in nodes),
                "VCLUSTER_ADDRESSES": " ".join(
                    "127.0.0.1" if loopback else f"{NETWORK}.{i}"
                    for i in nodes),
                "VCLUSTER_RSH": str(self.rsh())}

    def rsh(self):
        """What mpirun calls in ssh's place: HOST COMMAND LINE."""
        path = self.folder / "rsh"
        path.write_text("#!/bin/sh\nnode=$1; shift\nexec "
                        f"{shlex.quote(str(VCLUSTER))} exec $node sh -c "
                        "\"$*\"\n")
        path.chmod(0o755)
        return path


def shape(i, pid, rate, delay):
    """The qdiscs of node i's link, at both of its ends."""
    for where in (("nsenter", "-t", str(pid), "-n", "tc", "qdisc", "replace",
                   "dev", "eth0"), ("tc", "qdisc", "replace", "dev",
                                    f"port{i}")):
        if delay:
            # netem delays and limits in one queue.
            more = ("rate", rate) if rate else ()
            try:
                run(*where, "root", "netem", "delay", delay, *more)
            except CannotRun as error:
                raise CannotRun("--delay: this kernel has no netem "
                              f"({error})") from error
        elif rate:
            # A burst that a tick of the clock can carry, at 64 KiB or more.
            run(*where, "root", "tbf", "rate", rate, "burst", "64kb",
                "latency", "50ms")
