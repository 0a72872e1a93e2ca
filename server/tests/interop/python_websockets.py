"""Python `websockets` as a client: python_websockets.py URL CASE"""

import asyncio
import os
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

MIB = 1 << 20


async def echo(url):
    async with websockets.connect(url, max_size=None, compression=None) as ws:
        big = os.urandom(MIB)
        for message in ["", "hello", "grüße 🌊" * 1000, b"", b"\x00\xff", "x" * MIB, big]:
            await ws.send(message)
            assert await ws.recv() == message
        await ws.send(["fra", "gm", "", "ents"])
        assert await ws.recv() == "fragments"
        await ws.send([big[:1], big[1:70000], big[70000:]])
        assert await ws.recv() == big
        for payload in [b"", b"ping", b"p" * 125]:
            await (await ws.ping(payload))
        await ws.close(3999, "enough")
    assert (ws.close_code, ws.protocol.close_rcvd.code) == (3999, 3999)


async def compression(url):
    for window in [None, 9, 12]:
        deflate = ClientPerMessageDeflateFactory(
            server_max_window_bits=window, client_max_window_bits=window or True
        )
        async with websockets.connect(url, max_size=None, compression=None, extensions=[deflate]) as ws:
            assert [extension.name for extension in ws.protocol.extensions] == ["permessage-deflate"]
            for message in ["", "tide " * 20000, os.urandom(5000), b"wheel" * 200000, "grüße 🌊" * 300]:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["frag" * 999, "", "ments" * 999])
            assert await ws.recv() == "frag" * 999 + "ments" * 999


async def keepalive(url):
    async with websockets.connect(url, ping_interval=None) as ws:
        # Meanwhile the client sends only the Pongs of the library.
        try:
            await asyncio.wait_for(ws.recv(), 1.5)
            raise AssertionError("an unexpected message")
        except TimeoutError:
            pass
        await ws.send("hello")
        assert await ws.recv() == "hello"


async def drain(url):
    async with websockets.connect(url) as ws:
        await ws.send("ready")
        print(await ws.recv(), flush=True)
        await closed_with(ws, 1001, "server shutting down")


async def too_big(url):
    async with websockets.connect(url, compression=None) as ws:
        await ws.send(b"x" * (MIB + 1))
        await closed_with(ws, 1009)


async def invalid_text(url):
    async with websockets.connect(url, compression=None) as ws:
        await ws.send(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", text=True)
        await closed_with(ws, 1007)


async def closed_with(ws, code, reason=None):
    try:
        await ws.recv()
        raise AssertionError("a message instead of a Close")
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd.code == code, closed
        assert reason in (None, closed.rcvd.reason), closed
        assert closed.rcvd_then_sent, closed


asyncio.run(globals()[sys.argv[2]](sys.argv[1]))
