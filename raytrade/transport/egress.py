"""How a line leaves its host, so that lines take different networks: a source address, an interface or a proxy.

A proxy may need a password. It is named by where it stands, in the environment or in a file, read on the collector's
own host at each connection, and goes into no configuration, status, log or `repr`.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import socket
import stat
import struct
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from raytrade.errors import LineLost

ENVIRONMENT, FILE = "env:", "file:"
OTHERS = stat.S_IRWXG | stat.S_IRWXO
SIOCGIFADDR = 0x8915
REPLY_BYTES_MAX = 16_384


class Egress(msgspec.Struct, frozen=True, kw_only=True):
    """A way out; all empty: the host's own choice.

    `interface`: its first IPv4 address is the source. `proxy`: an HTTP proxy that takes CONNECT, as ``http://host:port``,
    or with a password as ``env:NAME`` or ``file:/path`` of the whole address.
    """

    source_address: str = ""
    interface: str = ""
    proxy: str = ""

    def source(self) -> str:
        """Give the address to leave from; empty for any.

        Raises:
            LineLost: there is no such interface here, or it has no address.
        """
        return self.source_address or (address_of(self.interface) if self.interface else "")

    def proxy_url(self) -> Secret:
        """Give the proxy's address; empty if there is none.

        Raises:
            LineLost: it is not where it should be, or a file that others can read.
        """
        if self.proxy.startswith(ENVIRONMENT):
            name = self.proxy.removeprefix(ENVIRONMENT)
            url = os.environ.get(name, "")
            if not url:
                raise LineLost("proxy", f"the environment has no {name}")
            return Secret(url)
        if self.proxy.startswith(FILE):
            return read_secret(Path(self.proxy.removeprefix(FILE)))
        return Secret(self.proxy)


class Secret:
    """Text that shows itself to nobody who does not ask for it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(***)" if self._text else "Secret()"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret does not leave its process")


def read_secret(path: Path) -> Secret:
    """Read a file that only its owner can read.

    Raises:
        LineLost: it cannot be read, is empty, or can be read by others.
    """
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LineLost("proxy", f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from None
    if mode & OTHERS:
        raise LineLost("proxy", f"{path}: others can read it (mode {stat.S_IMODE(mode):o}): chmod 600 {path}")
    if not text:
        raise LineLost("proxy", f"{path}: empty")
    return Secret(text)


def address_of(interface: str) -> str:
    """Give the first IPv4 address of a network interface.

    Raises:
        LineLost: there is none.
    """
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)[20:24])
        except OSError as error:
            raise LineLost(interface, f"interface {interface} has no address: {error.strerror}") from None


async def connect(host: str, port: int, egress: Egress) -> socket.socket:
    """Connect by this way out; behind a proxy the socket leads to the host already.

    Raises:
        LineLost: the way is not there, or the proxy refused.
        OSError: no connection.
    """
    url = egress.proxy_url()
    if not url:
        return await _open(host, port, egress.source())
    parts = urlsplit(url.reveal())
    proxy, proxy_port = parts.hostname, _port_of(parts)
    if parts.scheme != "http" or not proxy or not proxy_port:
        raise LineLost("proxy", "the proxy's address is not of the form http://[user:password@]host:port")
    opened = await _open(proxy, proxy_port, egress.source())
    try:
        await _tunnel(opened, f"{host}:{port}", parts.username, parts.password)
    except BaseException:
        opened.close()
        raise
    return opened


def _port_of(parts: SplitResult) -> int:
    """Give the port; 0 where there is none, or none that is a number."""
    try:
        return parts.port or 0
    except ValueError:
        return 0


async def _open(host: str, port: int, source: str) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_UNSPEC if not source else socket.AF_INET6 if ":" in source else socket.AF_INET
    problem: OSError = OSError(f"{host} has no address of this kind")
    for kind, _, _, _, address in await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM):
        opened = socket.socket(kind, socket.SOCK_STREAM)
        opened.setblocking(False)
        try:
            if source:
                opened.bind((source, 0))
            await loop.sock_connect(opened, address)
            return opened
        except OSError as error:
            opened.close()
            problem = error
        except BaseException:
            opened.close()
            raise
    raise problem


async def _tunnel(opened: socket.socket, target: str, user: str | None, password: str | None) -> None:
    """Have the proxy connect to the target."""
    loop = asyncio.get_running_loop()
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if user:
        pair = f"{unquote(user)}:{unquote(password or '')}"
        head += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    await loop.sock_sendall(opened, f"{head}\r\n".encode())
    reply = b""
    while b"\r\n\r\n" not in reply:
        part = await loop.sock_recv(opened, 4096)
        if not part or len(reply) > REPLY_BYTES_MAX:
            raise LineLost("proxy", "the proxy closed the connection")
        reply += part
    status = reply.split(b"\r\n", 1)[0].split()
    if len(status) < 2 or status[1] != b"200":
        code = status[1][:3].decode("ascii", "replace") if len(status) > 1 else "nothing"
        raise LineLost("proxy", f"the proxy answered {code}")
