"""An HTTP server that answers by a plan and keeps what it was asked.

    http_server.py FOLDER [CERTIFICATE KEY]

FOLDER/plan.json is a list of answers; the first one that fits a request is taken, `times` times or always:

    { "when": "POST /path", "status": 200, "headers": {}, "body": "text or JSON", "times": 1, "do": "lost" or "slow", "verify": "whsec_..." }

`when` fits as a prefix of method and path. "lost": the request is kept, and the connection closed without an answer. "slow": it is held open.
"verify": the signature is checked by the library of Standard Webhooks; 401 where it is wrong. Requests are kept as FOLDER/NUMBER.json.
It prints its port, and ends with its standard input.
"""

import json
import os
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

folder = sys.argv[1]
lock = threading.Lock()
taken = {}
count = 0


def keep(request):
    global count
    with lock:
        count += 1
        path = os.path.join(folder, f"{count}.json")
        with open(path + ".new", "w") as file:
            json.dump(request, file)
        os.rename(path + ".new", path)


def choose(request):
    with open(os.path.join(folder, "plan.json")) as file:
        plan = json.load(file)
    asked = f"{request['method']} {request['path']}"
    with lock:
        for number, answer in enumerate(plan):
            if asked.startswith(answer.get("when", "")) and taken.get(number, 0) < answer.get("times", 1 << 30):
                taken[number] = taken.get(number, 0) + 1
                return answer
    return {"status": 404, "body": "not in the plan"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        request = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("utf-8", "replace"),
        }
        answer = choose(request)
        keep(request)
        if answer.get("do") == "lost":
            self.close_connection = True
            return
        if answer.get("do") == "slow":
            threading.Event().wait(60)
            return
        status = answer.get("status", 200)
        if "verify" in answer:
            from standardwebhooks import Webhook, WebhookVerificationError

            try:
                Webhook(answer["verify"]).verify(body, request["headers"], json_parse=False)
            except WebhookVerificationError:
                status = 401
        text = answer.get("body", "")
        data = (text if isinstance(text, str) else json.dumps(text)).encode()
        self.send_response(status)
        for name, value in answer.get("headers", {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
