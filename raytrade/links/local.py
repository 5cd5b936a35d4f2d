"""The `shm` lane: between two actors on one host, through the kernel's memory and without any process in between.

A batch is one packet of a Unix socket (`SOCK_SEQPACKET`, abstract name: no file is left behind by a killed process, and
the death of either end is an end-of-file at once). Batches above `PACKET_BYTES_MAX` are written into a sealed
`memfd` whose descriptor is passed instead, so they are shared and not copied through the socket. The reader sleeps in
`epoll` and is woken by the kernel. A writer must show the random token that the reader gave it by an actor call, and
run under the reader's user.

Measured beside iceoryx2 (`benchmarks/hop.py`): see benchmarks/RESULTS.md.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import socket
import struct
from array import array
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import msgspec

from raytrade.errors import MalformedBatch
from raytrade.links.batch import BATCH_BYTES_MAX
from raytrade.links.publisher import Done, Sent

PACKET_BYTES_MAX = 96 * 1024
SOCKET_BUFFER_BYTES = 1024 * 1024
HELLO_BYTES_MAX = 4096
READS_MAX = 16
CONNECT_TIMEOUT_S = 2.0
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_CREDENTIALS = struct.Struct("3i")
_TRUNCATED = int(socket.MSG_TRUNC)
_CONTROL_BYTES = socket.CMSG_SPACE(4 * struct.calcsize("i"))


class Hello(msgspec.Struct, frozen=True):
    """The first packet of a writer."""

    token: str
    writer: str


@lru_cache(maxsize=1)
def host_id() -> str:
    """Name the place in which abstract sockets meet: this boot of this kernel, this network namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return ""
    return f"{boot.read_text().strip()}:{os.stat('/proc/self/ns/net').st_ino}"


class LocalLane:
    """The writing end.

    Raises:
        OSError: the reader is not there, or not on this host.
    """

    name = "shm"
    is_local = True

    def __init__(self, address: str, token: str, writer: str, buffer_bytes: int = SOCKET_BUFFER_BYTES) -> None:
        """`buffer_bytes` may lie in the lane; batches that would not fit are passed as descriptors."""
        self._packet_max = min(PACKET_BYTES_MAX, buffer_bytes)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(CONNECT_TIMEOUT_S)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            self._socket.connect(f"\0{address}")
            self._socket.send(msgspec.msgpack.encode(Hello(token, writer)))
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def send(self, data: bytes, done: Done) -> Sent:
        """Hand the batch to the kernel, if it has room."""
        try:
            if len(data) <= self._packet_max:
                self._socket.send(data)
            else:
                self._send_shared(data)
        except BlockingIOError:
            return Sent.FULL
        except OSError:
            return Sent.LOST
        return Sent.TAKEN

    def _send_shared(self, data: bytes) -> None:
        descriptor = os.memfd_create("raytrade-batch", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket, [b"M"], [descriptor])
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the socket; the reader sees the end."""
        self._socket.close()


class LocalListener:
    """Where the writers of one reader connect."""

    def __init__(self) -> None:
        self.address = f"raytrade-{secrets.token_hex(8)}"
        self.token = secrets.token_hex(16)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(f"\0{self.address}")
        self._socket.listen(64)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Give the descriptor to wait on."""
        return self._socket.fileno()

    def accept(self) -> LocalReceiver | None:
        """Take a writer's connection; None if there is none or it runs under another user."""
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return None
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(raw)[1] != os.getuid():
            connection.close()
            return None
        connection.setblocking(False)
        return LocalReceiver(connection, self.token)

    def close(self) -> None:
        """Take no more connections."""
        self._socket.close()


class LocalReceiver:
    """The reading end of one writer's connection."""

    def __init__(self, connection: socket.socket, token: str) -> None:
        self.writer = ""
        self.problem = ""
        """What was wrong with the last packet, if that ended the connection."""
        self._socket = connection
        self._token = token
        self._buffer = bytearray(PACKET_BYTES_MAX)
        self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        """Give the descriptor to wait on."""
        return self._socket.fileno()

    def read(self, batches_max: int = READS_MAX) -> list[bytes] | None:
        """Give the batches that are there, at most `batches_max`; None at the end of the connection."""
        batches: list[bytes] = []
        try:
            for _ in range(batches_max):
                packet = self._read_packet()
                if packet is None:
                    return batches or None
                if self.writer:
                    batches.append(packet)
                elif not self._greet(packet):
                    return None
        except BlockingIOError:
            pass
        except OSError:
            return batches or None
        except MalformedBatch as error:
            self.problem = str(error)
            return batches or None
        return batches

    def _greet(self, packet: bytes) -> bool:
        try:
            hello = msgspec.msgpack.decode(packet[:HELLO_BYTES_MAX], type=Hello)
        except msgspec.MsgspecError:
            return False
        if not secrets.compare_digest(hello.token, self._token):
            return False
        self.writer = hello.writer
        return True

    def _read_packet(self) -> bytes | None:
        size, controls, flags, _ = self._socket.recvmsg_into([self._view], _CONTROL_BYTES)
        if flags & _TRUNCATED:
            raise MalformedBatch("packet over its bound")
        if not controls:
            return bytes(self._view[:size]) or None
        return _read_passed(controls)

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._socket.close()


def _read_passed(controls: list[tuple[int, int, bytes]]) -> bytes:
    """Read the shared batch whose descriptor was passed; closes every descriptor that came."""
    descriptors = array("i")
    for level, kind, data in controls:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    try:
        if not descriptors:
            raise MalformedBatch("packet with foreign control data")
        return _read_shared(descriptors[0])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _read_shared(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    if not 0 < size <= BATCH_BYTES_MAX:
        raise MalformedBatch(f"shared batch of {size} bytes")
    if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
        raise MalformedBatch("shared batch that its writer can still change")
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as shared:
        return shared[:]
