"""An HTTP proxy that wants a password: `python proxy.py ADDRESS PORT USER:PASSWORD LOG`. Standard library only."""

from __future__ import annotations

import asyncio
import base64
import sys
from urllib.parse import urlsplit

ADDRESS, PORT, PAIR, LOG = sys.argv[1:5]
WANTED = f"proxy-authorization: basic {base64.b64encode(PAIR.encode()).decode()}".lower()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def note(line: str) -> None:
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(line)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    if WANTED not in head.lower().split("\r\n"):
        writer.write(b"HTTP/1.1 407 Password\r\n\r\n")
        writer.close()
        return
    method, target = head.split()[:2]
    opening = b""
    if method != "CONNECT":
        parts = urlsplit(target)
        kept = [line for line in head.split("\r\n")[1:] if not line.lower().startswith("proxy-")]
        opening = "\r\n".join([f"{method} {parts.path}?{parts.query} HTTP/1.1", *kept]).encode()
        target = parts.netloc
    note(f"{writer.get_extra_info('peername')[0]} {target}\n")
    host, _, port = target.rpartition(":")
    upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
    if opening:
        upstream_writer.write(opening)
    else:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer))


async def main() -> None:
    server = await asyncio.start_server(serve, ADDRESS, int(PORT))
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
