"""The hosts of `python -m tests.hosts`: a command that hangs is ended with all that it started."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.hosts.network import END_TIMEOUT_S, end


@pytest.mark.skipif(sys.platform != "linux", reason="the hosts are namespaces of Linux")
def test_a_command_is_ended_with_what_it_started() -> None:
    """The child holds the pipe: who only killed the shell and read on would wait for it."""
    process = subprocess.Popen(
        ["bash", "-c", "echo begun; sleep 600 & wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    began = time.monotonic()
    assert end(process) == ""
    assert time.monotonic() - began < END_TIMEOUT_S
    assert process.returncode == -9
