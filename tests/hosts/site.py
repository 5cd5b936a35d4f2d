"""What the hosts are furnished with: keys, a token, the image with this project's wheel, and the cluster file.

The cluster file is `examples/clusters/machines.yaml` with addresses, user and set-up put in, so that what is shipped is
what is tested.
"""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.hosts.network import NETWORK, Host, Network

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
LAUNCHER, VENUE, HEAD, OUTSIDER = "launcher", "venue", "head", "outsider"
INDEX = {HEAD: 1, VENUE: 9, LAUNCHER: 10, OUTSIDER: 11}
WORKERS = {
    "collector_a": {"tokyo": 2},
    "collector_b": {"zurich": 3, "spare": 6},
    "strategy": {"desk": 4},
    "recorder": {"archive": 5},
    "burst": {"extra": 8},
}
"""Host names and the last part of their addresses, by node type."""
GUEST, GUEST_INDEX = "guest", 7
LIVE_INDEX = 12
PROXY_USER, PROXY_PORT = "collector", 3128
PROXIED = "proxied"
"""The proxy's log, in the venue's /root."""
OBJECT_STORE_BYTES = 100_000_000
PROJECT = "/root/project"
BUILD_S = 240.0


class Site:
    """The folder of a run and what lies in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.image = directory / "image"
        self.venv = self.image / "venv"
        self.token = secrets.token_hex(32)
        self.secret = f"planted-{secrets.token_hex(12)}"
        self.image.mkdir()
        for name in ("user", "host"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(directory / name)]
            subprocess.run(command, check=True)

    def build_image(self) -> None:
        """Make what all hosts share: an environment with this project's wheel, over the dependencies of this one.

        The wheel goes in first: with the dependencies in sight, pip would take an installed raytrade for its own.
        """
        run = partial(subprocess.run, check=True, capture_output=True, timeout=BUILD_S)
        run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(self.image), str(ROOT)])
        (wheel,) = self.image.glob("*.whl")
        run([f"{sys.base_prefix}/bin/python3", "-m", "venv", "--without-pip", str(self.venv)])
        python = ["--python", f"{self.venv}/bin/python"]
        run([sys.executable, "-m", "pip", *python, "install", "--quiet", "--no-deps", "--no-index", str(wheel)])
        (packages,) = self.venv.glob("lib/python3*/site-packages")
        (packages / "image.pth").write_text(sysconfig.get_paths()["purelib"])
        command = self.venv / "bin/ray"
        command.write_text(f"#!{self.venv}/bin/python\nfrom ray.scripts.scripts import main\nmain()\n")
        command.chmod(0o755)
        for script in ("probe.py", "sentinel.py", "proxy.py", "zeromq.py"):
            shutil.copy(HERE / script, self.image / script)

    def furnish(self, network: Network, name: str, index: int) -> Host:
        """Add a host with its keys and its shell's profile, and start it.

        Names that are not in its /etc/hosts are refused at once, as where there is a name server: without one, who
        asks would wait 20 s.
        """
        host = network.add(name, index)
        (host.root / "hosts").write_text(f"127.0.0.1 localhost\n{host.address} {name}\n")
        (host.root / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        ssh = host.root / "root/.ssh"
        ssh.mkdir(mode=0o700, parents=True)
        host.root.joinpath("root").chmod(0o700)
        shutil.copy(self.directory / "user.pub", ssh / "authorized_keys")
        shutil.copy("/etc/skel/.bashrc", host.root / "root/.bashrc")
        proxy = host.root / "root/proxy"
        proxy.write_text(f"http://{PROXY_USER}:{self.secret}@{NETWORK}.{INDEX[VENUE]}:{PROXY_PORT}")
        proxy.chmod(0o600)
        settings = {"HostKey": self.directory / "host", "UsePAM": "no", "PermitRootLogin": "prohibit-password"}
        settings |= {"PasswordAuthentication": "no", "MaxStartups": "50:30:100"}
        (host.root / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        (host.root / "var/log").mkdir(parents=True)
        (host.root / "var/log/lastlog").touch()
        host.start()
        return host

    def furnish_launcher(self, launcher: Host) -> None:
        """Give the launcher the private key, the hosts' keys, the token and the project."""
        home = launcher.root / "root"
        shutil.copy(self.directory / "user", home / ".ssh/id_ed25519")
        (home / ".ssh/id_ed25519").chmod(0o600)
        key = (self.directory / "host.pub").read_text()
        (home / ".ssh/raytrade_hosts").write_text(f"{NETWORK}.* {key}")
        (home / ".ray").mkdir(mode=0o700)
        (home / ".ray/auth_token").write_text(self.token)
        (home / ".ray/auth_token").chmod(0o600)
        project = home / "project"
        project.mkdir()
        shutil.copytree(ROOT / "examples", project / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        profile = home / ".bashrc"
        variables = f"export PATH={self.venv}/bin:$PATH RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0\n"
        profile.write_text(variables + profile.read_text())

    def cluster(self, more_hosts: dict[str, list[str]] | None, tls: bool) -> dict[str, Any]:
        """Give the cluster file; `more_hosts` join their pools."""
        shipped = yaml.safe_load((ROOT / "examples/clusters/machines.yaml").read_text())
        old_head, new_head = shipped["provider"]["head"], f"{NETWORK}.{INDEX[HEAD]}"
        added = more_hosts or {}
        pools = {
            node_type: [*(f"{NETWORK}.{index}" for index in hosts.values()), *added.get(node_type, [])]
            for node_type, hosts in WORKERS.items()
        }
        provider = {"head": new_head, "pools": pools, "known_hosts": "~/.ssh/raytrade_hosts"}
        cluster = {**shipped, "provider": {**shipped["provider"], **provider}}
        cluster["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
        types = cluster["available_node_types"]
        types["collector_a"]["labels"]["region"] = "tokyo"
        types["collector_b"]["max_workers"] = 1
        types["burst"] = {**types["collector_b"], "min_workers": 0, "labels": {"burst": "yes"}}
        for node_type, addresses in added.items():
            types[node_type]["min_workers"] += len(addresses)
        cluster["max_workers"] = 12
        cluster["file_mounts"] = {
            PROJECT: PROJECT,
            "~/.ray/auth_token": "~/.ray/auth_token",
            "~/.ssh/raytrade_hosts": "~/.ssh/raytrade_hosts",
        }
        kept = [command.replace("/opt/raytrade/venv", str(self.venv)) for command in cluster["setup_commands"][2:]]
        cluster["setup_commands"] = [f"{self.venv}/bin/python -c 'import raytrade'", *kept]
        if tls:
            self._encrypt(cluster)
        small = f" --object-store-memory={OBJECT_STORE_BYTES}"
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            cluster[key][-1] = cluster[key][-1].replace(old_head, new_head) + small
        return cluster

    def _encrypt(self, cluster: dict[str, Any]) -> None:
        """Turn TLS on as docs/security.md says."""
        files = ("ca.crt", "server.crt", "server.key")
        cluster["file_mounts"] |= {f"~/.ray/tls/{name}": f"~/.ray/tls/{name}" for name in files}
        text = (ROOT / "docs/security.md").read_text()
        (variables,) = re.findall(r"`(RAY_USE_TLS=1[^`]+)`", text)
        last = cluster["setup_commands"].pop()
        cluster["setup_commands"].append("chmod 600 ~/.ray/tls/*")
        cluster["setup_commands"].append(
            last.replace("RAY_AUTH_MODE=token", f"RAY_AUTH_MODE=token {' '.join(variables.split())}")
        )

    def make_certificates(self, launcher: Host) -> None:
        """Make them on the launcher for every address of the network that a host may have."""
        addresses = " ".join(f"{NETWORK}.{number}" for number in range(1, 14))
        done = launcher.call(f"{PROJECT}/examples/clusters/make_certificates.sh ~/.ray/tls {addresses}", 30)
        if done.returncode:
            raise RuntimeError(f"no certificates: {done.stdout}")

    def pipeline(self, venue_port: int, regional: bool) -> dict[str, Any]:
        """Give the pipeline: the shape of a shipped example, over the emulator on the venue's host."""
        address = f"{NETWORK}.{INDEX[VENUE]}:{venue_port}"
        example = "regions" if regional else "pipeline"
        shipped = yaml.safe_load((ROOT / f"examples/{example}.yaml").read_text())
        venue = {"symbols": list(SYMBOLS), "ws_url": f"ws://{address}", "rest_url": f"http://{address}"}
        collectors = {**shipped["collectors"], "egress": [{"labels": {"zone": "b"}, "proxy": "file:/root/proxy"}]}
        strategy = {"name": "sentinel", "strategy": f"{self.image}/sentinel.py:Sentinel", "labels": {"strategy": "yes"}}
        return {
            "name": PIPELINE,
            "venues": {"binance-spot": venue},
            "collectors": collectors,
            "dedup": shipped["dedup"],
            "strategies": [strategy],
            "recorders": [{**shipped["recorders"][0], "directory": "/root/recording", "segment_age_s": 5}],
        }


PIPELINE = "hosts"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
