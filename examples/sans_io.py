import os
import socket
import threading

from trio_ws.protocol import ClientHandshake, Close, MaskPool, Phase, Protocol, ServerHandshake

masks = MaskPool(os.urandom)


def serve(sock: socket.socket) -> None:
    handshake = ServerHandshake()
    while handshake.receive_data(sock.recv(65536)) is None:
        pass
    handshake.check()
    head, protocol, leftover = handshake.accept(masks=masks)
    sock.sendall(head)
    echo(sock, protocol, leftover)
    sock.close()


def echo(sock: socket.socket, protocol: Protocol, data: bytes) -> None:
    while protocol.phase is Phase.OPEN:
        for event in protocol.receive_data(data):
            if isinstance(event, str | bytes):
                sock.sendall(b"".join(protocol.send_message(event)))
            elif isinstance(event, Close):
                sock.sendall(b"".join(protocol.send_answer()))
                return
        if not protocol.more and not (data := sock.recv(65536)):
            return
        data = b"" if protocol.more else data


def ask(sock: socket.socket, question: str) -> str | bytes:
    handshake = ClientHandshake(host="localhost", target="/", key=os.urandom(16))
    sock.sendall(handshake.request_bytes())
    while handshake.receive_data(sock.recv(65536)) is None:
        pass
    protocol, data = handshake.upgrade(masks=masks)
    sock.sendall(b"".join(protocol.send_message(question)))
    while not (events := protocol.receive_data(data)):
        data = sock.recv(65536)
    sock.sendall(b"".join(protocol.send_close(1000, None)))
    while protocol.phase is not Phase.ENDING:
        protocol.receive_data(sock.recv(65536))
    sock.close()
    assert isinstance(events[0], str | bytes)
    return events[0]


if __name__ == "__main__":
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve, args=[theirs])
    server.start()
    print(ask(ours, "hello"))
    server.join()
