"""Serving the page: in this process, or in one of its own beside a pipeline or a demo."""

from __future__ import annotations

import ipaddress
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raytrade.errors import ConfigError, PipelineError

if TYPE_CHECKING:
    from raytrade.web.controls import Controls
    from raytrade.web.feed import Feed

END_TIMEOUT_S = 10.0


def check_page(host: str, port: int) -> None:
    """See that a page can be served before anything is begun.

    Raises:
        ConfigError: a package is missing, or the port is taken.
    """
    try:
        import nicegui  # noqa: F401
    except ImportError as error:
        raise ConfigError("ui", "", f"needs another package ({error.name}): pip install 'raytrade[ui]'") from None
    from raytrade.transport.reach import taken

    problem = taken(port, host)
    if problem:
        raise ConfigError("ui", f"{host}:{port}", f"cannot listen there: {problem}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve_page(
    driver: Any,
    pipeline: str,
    host: str,
    port: int,
    token: str = "",
    controls_of: Callable[[Feed], Controls] | None = None,
) -> None:
    """Serve the page of a pipeline of the joined cluster until Ctrl-C; prints its address when it is up."""
    check_page(host, port)
    from raytrade.terminal.running import RunningPipeline
    from raytrade.transport.clock import SystemClock
    from raytrade.web.feed import Feed
    from raytrade.web.page import Site, serve

    if not _is_loopback(host) and not token:
        token = secrets.token_urlsafe(24)
    source = RunningPipeline(driver, pipeline)
    source.status()
    feed = Feed(source, SystemClock())
    site = Site(host=host, port=port, token=token, controls=controls_of(feed) if controls_of is not None else None)
    feed.start()
    query = f"/?token={token}" if token else "/"
    serve(feed, site, lambda: print(f"http://{host}:{port}{query}", flush=True))


@contextmanager
def _process(arguments: list[str]) -> Iterator[str]:
    """Run a page as a process of its own, out of reach of the terminal's Ctrl-C; gives its address."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise PipelineError(f"the page did not start (exit status {process.wait(END_TIMEOUT_S)})")
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def page_of(address: str, pipeline: str, host: str, port: int) -> Any:
    """Serve the page of a running pipeline beside this process, as a context that gives its address."""
    place = ["--address", address, "--pipeline", pipeline, "--host", host, "--port", str(port)]
    return _process(["raytrade", "ui", *place])


def demo_page(address: str, port: int, spared: str) -> Any:
    """Serve the page of a demo, with buttons that hit any of its actors but one."""
    return _process(["raytrade.cli.demo_page", address, str(port), spared])
