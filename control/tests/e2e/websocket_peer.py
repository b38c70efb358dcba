#!/usr/bin/env python3
"""A WebSocket server and client of the library `websockets`: serve ADDRESS | call URL [CA_FILE]."""

import asyncio
import ssl
import sys

import websockets

SIZES = [0, 1, 125, 126, 65_535, 65_536, 1_000_000]


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def serve(address):
    host, port = address.rsplit(":", 1)
    async with websockets.serve(echo, host, int(port), max_size=None):
        await asyncio.Future()


async def call(url, ca_file):
    context = None
    if ca_file:
        context = ssl.create_default_context(cafile=ca_file)
        context.check_hostname = False
    async with websockets.connect(url, ssl=context, max_size=None) as websocket:
        for size in SIZES:
            for message in ["x" * size, bytes(size)]:
                await websocket.send(message)
                assert await websocket.recv() == message, size
        await (await websocket.ping())
        # Both ways at once, many on their way.
        for number in range(500):
            await websocket.send(str(number))
        for number in range(500):
            assert await websocket.recv() == str(number)
        await websocket.close(4000, "enough")
    assert (websocket.close_code, websocket.close_reason) == (4000, "enough"), (websocket.close_code, websocket.close_reason)
    print("ok")


if sys.argv[1] == "serve":
    asyncio.run(serve(sys.argv[2]))
else:
    asyncio.run(call(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
