"""A mail server for tests: python3-aiosmtpd with STARTTLS or TLS and AUTH, and with faults on demand.

usage: mail_server.py MODE FOLDER [CERT KEY]
MODE: plain | starttls | tls | slow | refuse | lost | hangup. Prints its port; each mail becomes a file in FOLDER.
"""

import asyncio
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


class Handler:
    def __init__(self, mode, folder):
        self.mode, self.folder, self.count = mode, folder, 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.mode == "refuse":
            return "451 4.3.0 try again later"
        self.count += 1
        path = os.path.join(self.folder, f"{self.count}.eml")
        with open(path + ".new", "wb") as file:
            file.write(b"X-Rcpt: " + ",".join(envelope.rcpt_tos).encode() + b"\r\n" + envelope.original_content)
        os.rename(path + ".new", path)
        if self.mode == "lost" and self.count == 1:
            server.transport.abort()
            return "250 never seen"
        return "250 2.0.0 taken as 42"

    async def handle_MAIL(self, server, session, envelope, address, options):
        if self.mode == "slow":
            await asyncio.sleep(3600)
        if self.mode == "hangup":
            server.transport.abort()
        envelope.mail_from = address
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"weir" and data.password == b"correct horse"
    return AuthResult(success=good, handled=False, message=None if good else "535 5.7.8 wrong password")


async def main():
    mode, folder = sys.argv[1:3]
    context = None
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
    handler = Handler(mode, folder)
    options = {"authenticator": authenticate, "hostname": "mail.test"}
    if mode == "plain" or context is None:
        options["auth_require_tls"] = False
    elif mode != "tls":
        options.update(tls_context=context, require_starttls=True)
    else:
        options["auth_require_tls"] = False
    factory = lambda: SMTP(handler, **options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context if mode == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Ends with its standard input, so that it cannot outlive the test.
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
