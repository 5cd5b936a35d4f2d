"""What must not be possible on the hosts, and what must not be found there."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.hosts.network import Host
from tests.hosts.site import ROOT, Site

ALLOWED = ("root/.ray/auth_token", "root/proxy")
"""Where the secrets may stand, and nowhere else."""
SKIPPED = ("root/.pyenv",)
FILE_BYTES_MAX = 64 * 1024 * 1024
JOIN = "timeout 60 ray start --address={head}:6379 --labels=collector=yes"
DRIVE = (
    "timeout 60 python -c \"import ray; ray.init('{head}:6379', namespace='raytrade', log_to_driver=False); "
    "print('READ', ray.get(ray.get_actor('hosts-dedup-0-a').images.remote(['*']))[:1])\""
)
SUBMIT = "timeout 60 ray job submit --address=http://127.0.0.1:8265 -- id"


def documented_ports() -> set[int]:
    """Give the ports of the table in docs/security.md, but for those on loopback."""
    ports: set[int] = set()
    for row in re.findall(r"^\| ([0-9, -]+) \| .* \| (.*) \| .* \|$", (ROOT / "docs/security.md").read_text(), re.M):
        if "loopback" in row[1]:
            continue
        for part in row[0].split(","):
            first, _, last = part.strip().partition("-")
            ports |= set(range(int(first), int(last or first) + 1))
    return ports


def open_ports(host: Host) -> set[int]:
    """Give the TCP ports on which a host listens, but for loopback."""
    listed = host.call("ss -Htln", 20).stdout.split("\n")
    addresses = [line.split()[3] for line in listed if len(line.split()) > 3]
    return {
        int(address.rpartition(":")[2])
        for address in addresses
        if not address.startswith(("127.", "[::1]", "[::ffff:127."))
    }


def intrude(site: Site, outsider: Host, head: Host, joining: bool = True) -> dict[str, str]:
    """Try to get in without the token, and with a wrong one; gives what succeeded, by attempt.

    `joining`: also as a node, which takes longer.
    """
    wrong_token = site.token[::-1]
    attempts = {
        "join without a token": (outsider, "disabled", "", JOIN),
        "join with a wrong token": (outsider, "token", wrong_token, JOIN),
        "read a stream without a token": (outsider, "disabled", "", DRIVE),
        "read a stream with a wrong token": (outsider, "token", wrong_token, DRIVE),
        "submit a job with a wrong token": (head, "token", wrong_token, SUBMIT),
    }

    attempts = {name: part for name, part in attempts.items() if joining or part[3] is not JOIN}

    def attempt(name: str) -> str:
        host, mode, wrong, command = attempts[name]
        variables = (
            f"export RAY_AUTH_MODE={mode} RAY_AUTH_TOKEN={wrong} PATH={site.venv}/bin:$PATH RAY_USAGE_STATS_ENABLED=0"
        )
        done = host.call(f"{variables}; {command.format(head=head.address)}", 90)
        return done.stdout[-300:] if done.returncode == 0 or "READ" in done.stdout else ""

    with ThreadPoolExecutor(max_workers=len(attempts)) as pool:
        outputs = dict(zip(attempts, pool.map(attempt, attempts), strict=True))
    return {name: output for name, output in outputs.items() if output}


def find_secrets(hosts: dict[str, Host], secrets: list[bytes]) -> list[str]:
    """Name every file of any host in which a secret stands that should not."""
    found = []
    for host in hosts.values():
        for folder, subfolders, names in os.walk(host.root):
            inside = os.path.relpath(folder, host.root)
            subfolders[:] = [one for one in subfolders if f"{inside}/{one}" not in SKIPPED]
            for name in names:
                path = Path(folder, name)
                where = str(path.relative_to(host.root))
                try:
                    if where in ALLOWED or not path.is_file() or path.stat().st_size > FILE_BYTES_MAX:
                        continue
                    data = path.read_bytes()
                except FileNotFoundError:
                    continue
                found += [f"{host.name}:/{where}" for secret in secrets if secret in data]
    return found
