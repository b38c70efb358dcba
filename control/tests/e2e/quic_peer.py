#!/usr/bin/env python3
"""QUIC of the library `aioquic`: serve ADDRESS CERTIFICATE KEY | call ADDRESS CA_FILE ROUNDS. The client says each round that it is over."""

import asyncio
import sys

from aioquic.asyncio import connect
from aioquic.asyncio import serve as listen
from aioquic.quic.configuration import QuicConfiguration

PIECE = bytes(range(256)) * 400


def parts(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


async def echo(reader, writer):
    writer.write(await reader.read())
    writer.write_eof()


async def serve(address, certificate, key):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    configuration.load_cert_chain(certificate, key)
    await listen(*parts(address), configuration=configuration, stream_handler=lambda r, w: asyncio.ensure_future(echo(r, w)))
    print("ready", flush=True)
    await asyncio.Future()


async def call(address, ca_file, rounds):
    configuration = QuicConfiguration(alpn_protocols=["echo"], server_name="web.test")
    configuration.load_verify_locations(ca_file)
    async with connect(*parts(address), configuration=configuration) as client:
        for number in range(int(rounds)):
            reader, writer = await client.create_stream()
            writer.write(PIECE)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 20) == PIECE, number
            print(number, flush=True)
            await asyncio.sleep(0.05)
    print("ok", flush=True)


if sys.argv[1] == "serve":
    asyncio.run(serve(*sys.argv[2:]))
else:
    asyncio.run(call(*sys.argv[2:]))
