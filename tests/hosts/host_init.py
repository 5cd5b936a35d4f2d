"""The first process of a host: lays its own /tmp, /root, /run and /dev/shm, starts sshd, and buries the dead.

Runs as PID 1 of new namespaces (see `tests.hosts.network`); its argument is a JSON file. It says `ready` and ends with
sshd. Needs nothing but the standard library: it is started from the interpreter that runs the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

OWN_PLACES = ("/tmp", "/root", "/run", "/var/log")
SHARED_MEMORY = "size=1g,mode=1777"


def call(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def lay(root: Path, exposed: list[str]) -> None:
    """Put the host's own folders in place; `exposed` paths inside them stay what they are outside.

    A host that starts again finds its /root and its logs, and nothing of what ran.
    """
    names = Path("/etc/resolv.conf").resolve()
    for place in ("tmp", "run"):
        shutil.rmtree(root / place, ignore_errors=True)
    for place in OWN_PLACES:
        (root / place[1:]).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "run/sshd").mkdir(mode=0o755)
    for path in exposed:
        if path.startswith(tuple(f"{place}/" for place in OWN_PLACES)):
            target = root / path[1:]
            target.mkdir(parents=True, exist_ok=True)
            call("mount", "--bind", "-o", "ro", path, str(target))
    for place in OWN_PLACES:
        call("mount", "--rbind", str(root / place[1:]), place)
    call("mount", "-t", "tmpfs", "-o", SHARED_MEMORY, "tmpfs", "/dev/shm")
    call("mount", "--bind", str(root / "hosts"), "/etc/hosts")
    if names.exists():
        call("mount", "--bind", str(root / "resolv.conf"), str(names))


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text())
    root = Path(spec["root"])
    call("hostname", spec["name"])
    lay(root, spec["exposed"])
    with open(root / "sshd.log", "ab") as log:
        sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(root / "sshd_config")], stdout=log, stderr=log)
    print("ready", flush=True)
    while True:
        pid, _ = os.wait()
        if pid == sshd.pid:
            return 1


if __name__ == "__main__":
    raise SystemExit(main())
