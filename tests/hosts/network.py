"""Hosts on one machine: each has network, mount, PID and UTS namespaces of its own, an address on a bridge, and sshd.

No namespace has a name: each lives as long as the process that holds it, and that process dies with this one, however
this one ends. Only the folder of the run can be left behind, and the next run removes it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

NETWORK = "10.77.0"
BRIDGE_ADDRESS = f"{NETWORK}.254"
START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 10.0
PACKAGES = {"sshd": "openssh-server", "rsync": "rsync", "ip": "iproute2", "nsenter": "util-linux"}
PR_SET_PDEATHSIG = 1
AHEAD = "{ echo -20 > /proc/self/autogroup; } 2> /dev/null"
"""Where Linux shares processors out by session, this one comes first.

A host has cores of its own. Here all hosts share one machine's, and what is called on one of them (a command of the
launcher, a node that is started) would be measured waiting for what runs on the others.
"""
_libc = ctypes.CDLL(None, use_errno=True)


def reason_against() -> str:
    """Say why hosts cannot be made here; empty if they can. Tries it."""
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "ip", "link", "set", "lo", "up"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def install_missing() -> str:
    """Install what is missing of sshd, rsync and iproute2 with apt; gives a reason if that is not possible."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None})
    if not missing:
        return ""
    if shutil.which("apt-get") is None:
        return f"missing: {', '.join(missing)} (and no apt-get to install them)"
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *missing]):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(["apt-get", *command], capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            return f"apt-get {' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}"
    return ""


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(command: Sequence[str], namespace_of: int = 0) -> None:
    """Run a command to its end, in the network namespace of a process if one is given."""
    enter = ["nsenter", "-t", str(namespace_of), "-n"] if namespace_of else []
    subprocess.run([*enter, *command], check=True, capture_output=True, text=True)


class Host:
    """One host; `index` is the last part of its address."""

    def __init__(self, name: str, index: int, bridge: int, directory: Path, exposed: list[str]) -> None:
        self.name = name
        self.address = f"{NETWORK}.{index}"
        self.root = directory / name
        self._index = index
        self._bridge = bridge
        self._exposed = exposed
        self._process: subprocess.Popen[str] | None = None
        self._wire: subprocess.Popen[bytes] | None = None

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def _hardware_address(self) -> str:
        """The same on every cable, so that nobody has to ask anew who has the address."""
        return f"02:00:0a:4d:00:{self._index:02x}"

    @property
    def is_up(self) -> bool:
        """Tell whether the host has not been killed."""
        return self._process is not None

    @property
    def init_pid(self) -> int:
        """Give the process that is 1 inside."""
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        return int(children[0])

    def start(self) -> None:
        """Make the namespaces and the address; sshd listens when this returns."""
        specification = self.root / "host.json"
        text = {"name": self.name, "root": str(self.root), "exposed": self._exposed}
        specification.write_text(json.dumps(text))
        command = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        command += [sys.executable, str(Path(__file__).with_name("host_init.py")), str(specification)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent, stdin=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        read_line(self._process.stdout, "ready", self.name)
        self._plug_in()

    def _plug_in(self) -> None:
        outer = f"v{self._index}"
        pid = str(self._pid)
        run(["ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", pid], self._bridge)
        run(["ip", "link", "set", outer, "master", "br0", "up"], self._bridge)
        run(["ip", "link", "set", "lo", "up"], self._pid)
        run(["ip", "link", "set", "eth0", "address", self._hardware_address], self._pid)
        self._address("eth0")

    def _address(self, interface: str) -> None:
        run(["ip", "addr", "add", f"{self.address}/24", "dev", interface], self._pid)
        run(["ip", "link", "set", interface, "up"], self._pid)
        run(["ip", "route", "add", "default", "via", BRIDGE_ADDRESS], self._pid)

    @property
    def port(self) -> str:
        """The host's port on the switch."""
        return f"t{self._index}" if self._wire is not None else f"v{self._index}"

    def partition(self, cut: bool) -> None:
        """Take the host's cable out of the switch, or put it back."""
        run(["ip", "link", "set", self.port, "down" if cut else "up"], self._bridge)

    def lengthen(self, delay_ms: float, loss: float = 0.0) -> None:
        """Put a wire between host and switch: `delay_ms` one way, `loss` as a share of the frames, both ways."""
        run(["ip", "link", "set", "eth0", "down"], self._pid)
        run(["ip", "addr", "flush", "dev", "eth0"], self._pid)
        wire = str(Path(__file__).with_name("wire.py"))
        ends = [str(self._pid), "tap0", str(self._bridge), f"t{self._index}"]
        self._wire = subprocess.Popen(
            [sys.executable, wire, *ends, str(delay_ms), str(loss)],
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
            stdin=subprocess.DEVNULL,
        )
        assert self._wire.stdout is not None
        read_line(self._wire.stdout, "ready", "wire")
        run(["ip", "link", "set", f"t{self._index}", "master", "br0", "up"], self._bridge)
        run(["ip", "link", "set", "tap0", "address", self._hardware_address], self._pid)
        self._address("tap0")

    def shorten(self) -> None:
        """Take the wire out again."""
        assert self._wire is not None
        self._wire.kill()
        self._wire.wait()
        self._wire = None
        self._address("eth0")

    @property
    def cpu_s(self) -> float:
        """Give the processor time of all that ran inside so far, but for commands that were entered and have ended."""
        inside = os.readlink(f"/proc/{self.init_pid}/ns/pid")
        ticks = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns/pid") == inside:
                    ticks += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:15]))
            except OSError:
                continue
        return ticks / os.sysconf("SC_CLK_TCK")

    def enter(self, command: str, **options: object) -> subprocess.Popen[str]:
        """Start a command in a login shell inside; `end` ends it."""
        inside = ["nsenter", "-t", str(self.init_pid), "-n", "-m", "-p", "-u", "-i", "-w/root", "--"]
        clean = ["env", "-i", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [*inside, *clean, "bash", "--login", "-c", f"test ! -e ~/.bashrc || source ~/.bashrc; {command}"],
            text=True,
            preexec_fn=die_with_parent,
            start_new_session=True,
            **options,
        )

    def call(self, command: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end; it and what it leaves behind go before all else (`AHEAD`)."""
        process = self.enter(
            f"{AHEAD}; {command}", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            output = f"{end(process)}\n(ended after {timeout_s:.0f} s)"
        except BaseException:
            end(process)
            raise
        return subprocess.CompletedProcess(command, process.returncode, output, "")

    def kill(self) -> None:
        """Pull the plug: every process ends at once."""
        for process in (self._wire, self._process):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
        self._wire = self._process = None
        subprocess.run(
            ["nsenter", "-t", str(self._bridge), "-n", "ip", "link", "del", f"v{self._index}"],
            check=False,
            capture_output=True,
        )


def end(process: subprocess.Popen[str]) -> str:
    """End an entered command with all it started, unless that left its session; gives what it wrote and nobody read."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
        process.stdin = None
    try:
        return process.communicate(timeout=END_TIMEOUT_S)[0] or ""
    except subprocess.TimeoutExpired:
        return ""


def read_line(stream: IO[str] | IO[bytes], wanted: str, who: str) -> None:
    """Wait for a line of a child.

    Raises:
        RuntimeError: it did not come.
    """
    ready, _, _ = select.select([stream], [], [], START_TIMEOUT_S)
    line = stream.readline() if ready else ""
    text = line if isinstance(line, str) else line.decode()
    if text.strip() != wanted:
        raise RuntimeError(f"{who} did not start: {text.strip() or 'no answer'}")


class Network:
    """A switch and the hosts on it."""

    def __init__(self, directory: Path, exposed: list[str]) -> None:
        self.hosts: dict[str, Host] = {}
        self._directory = directory
        self._exposed = exposed
        holder = "import sys; print('ready', flush=True); sys.stdin.read()"
        self._switch = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", holder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        assert self._switch.stdout is not None
        read_line(self._switch.stdout, "ready", "switch")
        for command in (
            ["ip", "link", "add", "br0", "type", "bridge"],
            ["ip", "link", "set", "br0", "up"],
            ["ip", "link", "set", "lo", "up"],
            ["ip", "addr", "add", f"{BRIDGE_ADDRESS}/24", "dev", "br0"],
        ):
            run(command, self._switch.pid)

    def add(self, name: str, index: int) -> Host:
        """Give a host that is not started yet; its folder is there, to be filled."""
        host = Host(name, index, self._switch.pid, self._directory, self._exposed)
        host.root.mkdir()
        self.hosts[name] = host
        return host

    def received_bytes(self, host: Host) -> int:
        """Give how many bytes the switch took from a host."""
        counter = f"/sys/class/net/{host.port}/statistics/rx_bytes"
        enter = ["nsenter", "-t", str(self._switch.pid), "-n", "unshare", "--mount", "sh", "-c"]
        read = subprocess.run(
            [*enter, f"mount -t sysfs sysfs /sys && cat {counter}"], check=True, capture_output=True, text=True
        )
        return int(read.stdout)

    def stop(self) -> None:
        """End every host and the switch; the namespaces end with them."""
        for host in self.hosts.values():
            host.kill()
        self._switch.kill()
        self._switch.wait()
        for stream in (self._switch.stdin, self._switch.stdout):
            if stream is not None:
                stream.close()
