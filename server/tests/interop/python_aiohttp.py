"""Python `aiohttp` as a client: python_aiohttp.py URL CASE"""

import asyncio
import os
import sys

import aiohttp
from aiohttp import WSMsgType

MIB = 1 << 20


async def echo(ws):
    big = os.urandom(MIB)
    for message in ["", "hello", "grüße 🌊" * 1000, "x" * MIB]:
        await ws.send_str(message)
        assert await ws.receive_str() == message
    for message in [b"", b"\x00\xff", big]:
        await ws.send_bytes(message)
        assert await ws.receive_bytes() == message
    for payload in [b"", b"ping", b"p" * 125]:
        await ws.ping(payload)
        pong = await ws.receive()
        assert (pong.type, bytes(pong.data)) == (WSMsgType.PONG, payload), pong
    await ws.close(code=3999, message=b"enough")
    assert ws.close_code == 3999, ws.close_code


async def compression(ws):
    assert ws.compress, "permessage-deflate was not negotiated"
    for message in ["", "tide " * 20000, "grüße 🌊" * 300]:
        await ws.send_str(message)
        assert await ws.receive_str() == message
    for message in [os.urandom(5000), b"wheel" * 200000]:
        await ws.send_bytes(message)
        assert await ws.receive_bytes() == message


async def keepalive(ws):
    # Five Pings take longer than the ping timeout.
    for _ in range(5):
        ping = await ws.receive()
        assert ping.type == WSMsgType.PING, ping
        await ws.pong(ping.data)
    await ws.send_str("hello")
    while (message := await ws.receive()).type == WSMsgType.PING:
        await ws.pong(message.data)
    assert message.data == "hello", message


async def drain(ws):
    await ws.send_str("ready")
    print(await ws.receive_str(), flush=True)
    await closed_with(ws, 1001, "server shutting down")


async def too_big(ws):
    await ws.send_bytes(b"x" * (MIB + 1))
    await closed_with(ws, 1009)


async def invalid_text(ws):
    await ws.send_frame(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", WSMsgType.TEXT)
    await closed_with(ws, 1007)


async def closed_with(ws, code, reason=None):
    message = await ws.receive()
    assert message.type == WSMsgType.CLOSE, message
    assert message.data == code, message
    assert reason in (None, message.extra), message


async def main(url, case):
    # The cases about Pings handle them themselves.
    options = {"autoping": case not in ("echo", "keepalive"), "max_msg_size": 0}
    if case == "compression":
        options["compress"] = 15
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, **options) as ws:
            await globals()[case](ws)


asyncio.run(main(sys.argv[1], sys.argv[2]))
