"""A client and a server of gRPC that know no schema: messages are bytes.

    grpc_peer.py serve ADDRESS      serves until it is killed
    grpc_peer.py call ADDRESS       calls everything, prints "ok" or what was wrong
    grpc_peer.py call-other ADDRESS the same of a server that sends no trailers of its own
"""

import sys
from concurrent import futures

import grpc

SERVICE = "test.Echo"


def unary(request, context):
    context.set_trailing_metadata((("x-trailer", "behind"),))
    return b"unary " + request


def server_stream(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def client_stream(requests, context):
    count = total = 0
    for request in requests:
        count, total = count + 1, total + len(request)
    return f"{count} {total}".encode()


def both(requests, context):
    for request in requests:
        yield b"echo " + request


def fail(request, context):
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not this")


def health(request, context):
    # HealthCheckResponse of SERVING, or NOT_SERVING for a service that is ill.
    if b"unknown" in request:
        context.abort(grpc.StatusCode.NOT_FOUND, "who")
    return b"\x08\x02" if b"ill" in request else b"\x08\x01"


def serve(address):
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, handlers),
            grpc.method_handlers_generic_handler(
                "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(health)}
            ),
        )
    )
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, wanted {wanted!r}")


def call(address, trailer="behind"):
    # Not by way of a proxy of the environment.
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        path = lambda name: f"/{SERVICE}/{name}"
        answer, done = channel.unary_unary(path("Unary")).with_call(b"x", timeout=20)
        expect("unary", answer, b"unary x")
        expect("trailers", dict(done.trailing_metadata()).get("x-trailer"), trailer)
        large = b"y" * 1_000_000
        expect("large", channel.unary_unary(path("Unary"))(large, timeout=20), b"unary " + large)
        answers = list(channel.unary_stream(path("ServerStream"))(b"500", timeout=20))
        expect("server stream", answers, [str(number).encode() for number in range(500)])
        requests = (b"z" * 1000 for _ in range(500))
        expect("client stream", channel.stream_unary(path("ClientStream"))(requests, timeout=20), b"500 500000")
        # Each message waits for the echo of the one before: both ways at once, or not at all.
        echoes = []

        def questions():
            yield b"0"
            for number in range(1, 100):
                while len(echoes) < number:
                    pass_on.get()
                yield str(number).encode()

        import queue

        pass_on = queue.Queue()
        for echo in channel.stream_stream(path("Both"))(questions(), timeout=20):
            echoes.append(echo)
            pass_on.put(None)
        expect("both ways", echoes, [b"echo " + str(number).encode() for number in range(100)])
        try:
            channel.unary_unary(path("Fail"))(b"x", timeout=20)
            sys.exit("fail: it did not")
        except grpc.RpcError as error:
            expect("status", (error.code(), error.details()), (grpc.StatusCode.INVALID_ARGUMENT, "not this"))
        try:
            channel.unary_unary(path("None"))(b"x", timeout=20)
            sys.exit("none: it was there")
        except grpc.RpcError as error:
            expect("status", error.code(), grpc.StatusCode.UNIMPLEMENTED)
    print("ok")


if __name__ == "__main__":
    {"serve": serve, "call": call, "call-other": lambda address: call(address, None)}[sys.argv[1]](sys.argv[2])
