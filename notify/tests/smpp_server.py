"""A centre for short messages. It reads and writes PDUs by the library smpp.pdu, which is not ours.

    smpp_server.py FOLDER MODE [CERTIFICATE KEY]

It knows the user "weir" with the password "secret08". MODE: "good"; "throttled": the first message is refused for now; "lost": the first message
is kept, and the connection closed without an answer; "slow": messages are not answered; "held": the first one is not; "refusing": numbers that begin with 666 are refused.
Messages are kept as FOLDER/NUMBER.json. Before each answer it asks whether the client is there, and waits for the answer.
It prints its port, and ends with its standard input.
"""

import io
import json
import os
import socketserver
import ssl
import struct
import sys
import threading

from smpp.pdu.operations import BindTransmitterResp, EnquireLink, SubmitSMResp, UnbindResp
from smpp.pdu.pdu_encoding import PDUEncoder
from smpp.pdu.pdu_types import CommandId, CommandStatus

folder, mode = sys.argv[1], sys.argv[2]
lock = threading.Lock()
count = 0


def keep(params):
    global count
    with lock:
        count += 1
        number = count
        path = os.path.join(folder, f"{number}.json")
        with open(path + ".new", "w") as file:
            json.dump(
                {
                    "from": params["source_addr"].decode(),
                    "to": params["destination_addr"].decode(),
                    "from_type": str(params["source_addr_ton"]),
                    "to_type": str(params["dest_addr_ton"]),
                    "has_header": "UDHI" in str(params["esm_class"]),
                    "coding": str(params["data_coding"].schemeData),
                    "text": params["short_message"].hex(),
                },
                file,
            )
        os.rename(path + ".new", path)
    return number


class Session(socketserver.BaseRequestHandler):
    def read(self):
        head = self.rest(4)
        return PDUEncoder().decode(io.BytesIO(head + self.rest(struct.unpack(">I", head)[0] - 4)))

    def rest(self, length):
        data = b""
        while len(data) < length:
            more = self.request.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def say(self, pdu):
        self.request.sendall(PDUEncoder().encode(pdu))

    def handle(self):
        try:
            self.talk()
        except (EOFError, OSError):
            pass

    def talk(self):
        bind = self.read()
        if bind.id != CommandId.bind_transmitter:
            return
        status = CommandStatus.ESME_ROK
        if bind.params["system_id"] != b"weir":
            status = CommandStatus.ESME_RINVSYSID
        elif bind.params["password"] != b"secret08":
            status = CommandStatus.ESME_RINVPASWD
        self.say(BindTransmitterResp(seqNum=bind.seqNum, status=status, system_id="centre"))
        while True:
            pdu = self.read()
            if pdu.id == CommandId.unbind:
                self.say(UnbindResp(seqNum=pdu.seqNum))
                return
            if pdu.id != CommandId.submit_sm:
                raise EOFError
            self.say(EnquireLink(seqNum=4711))
            there = self.read()
            if (there.id, there.seqNum) != (CommandId.enquire_link_resp, 4711):
                raise EOFError
            if mode == "refusing" and pdu.params["destination_addr"].startswith(b"666"):
                self.say(SubmitSMResp(seqNum=pdu.seqNum, status=CommandStatus.ESME_RINVDSTADR))
                continue
            number = keep(pdu.params)
            if mode == "throttled" and number == 1:
                self.say(SubmitSMResp(seqNum=pdu.seqNum, status=CommandStatus.ESME_RTHROTTLED))
                continue
            if mode == "lost" and number == 1:
                return
            if mode == "slow" or (mode == "held" and number == 1):
                threading.Event().wait(60)
                return
            self.say(SubmitSMResp(seqNum=pdu.seqNum, message_id=f"id-{number}"))


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def get_request(self):
        connection, address = super().get_request()
        if len(sys.argv) > 3:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(sys.argv[3], sys.argv[4])
            connection = context.wrap_socket(connection, server_side=True)
        return connection, address


server = Server(("127.0.0.1", 0), Session)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
