"""An HTTP proxy in front of a store that does one thing wrong, at the n-th request."""
import contextlib
import http.client
import socket
import ssl
import threading
import time

from pgserver import free_port, release_port

KINDS = ["cut before", "cut after", "cut the answer", "delay", "corrupt the request", "corrupt the answer", "500", "503", "404", "412"]
CODES = {"500": "InternalError", "503": "SlowDown", "404": "NoSuchKey", "412": "PreconditionFailed"}


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:]


class FaultProxy:
    """kind None: does nothing wrong. requests counts; done says whether the fault was met."""

    def __init__(self, port, kind=None, n=0, delay_s=1.0, certificate=None):
        self.target, self.kind, self.n, self.delay_s = port, kind, n, delay_s
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.requests, self.done, self.seen = 0, False, []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.tls = None
        if certificate:
            self.endpoint = f"https://localhost:{self.port}"
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)
        threading.Thread(target=self.accept, daemon=True).start()

    def destroy(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        release_port(self.port)

    __enter__ = lambda self: self

    def __exit__(self, *exc):
        self.destroy()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with contextlib.suppress(OSError, http.client.HTTPException):
            client = self.tls.wrap_socket(client, server_side=True) if self.tls else client
            with client, client.makefile("rb") as lines:
                while self.one(client, lines):
                    pass

    @staticmethod
    def read_request(lines):
        first = lines.readline()
        if not first:
            return None
        method, path, _ = first.decode("latin1").split(" ", 2)
        headers = {}
        while (line := lines.readline().strip()):
            name, value = line.decode("latin1").split(":", 1)
            headers[name.strip().lower()] = value.strip()
        return method, path, headers, lines.read(int(headers.get("content-length", 0)))

    def number(self, method, path):
        with self.lock:
            self.requests += 1
            self.seen.append(f"{method} {path}")
            hit = self.kind is not None and self.requests == self.n
            self.done |= hit
            return hit

    def forward(self, method, path, headers, body):
        upstream = http.client.HTTPConnection("127.0.0.1", self.target, timeout=60)
        upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if name not in ("connection", "content-length", "transfer-encoding"):
                upstream.putheader(name, value)
        if body or method in ("PUT", "POST"):
            upstream.putheader("content-length", str(len(body)))
        upstream.endheaders(body or None)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("connection", "transfer-encoding", "content-length")]
        return answer.status, kept, data

    @staticmethod
    def reply(client, status, headers, data, cut=False):
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers)
        if status != 204:
            head += f"Content-Length: {len(data)}\r\n"
        whole = head.encode("latin1") + b"\r\n" + data
        client.sendall(whole[:len(whole) // 2] if cut else whole)

    def one(self, client, lines):
        request = self.read_request(lines)
        if request is None:
            return False
        method, path, headers, body = request
        hit = self.number(method, path)
        kind = self.kind if hit else None
        if kind == "cut before":
            return False
        if kind in CODES:
            self.reply(client, int(kind), [("Content-Type", "application/xml")],
                       f"<Error><Code>{CODES[kind]}</Code><Message>the proxy says so</Message></Error>".encode())
            return True
        if kind == "corrupt the request" and body:
            body = flipped(body, len(body) // 2)
        status, answer_headers, data = self.forward(method, path, headers, body)
        if kind == "delay":
            time.sleep(self.delay_s)
        if kind == "cut after":
            return False
        is_object = method == "GET" and "list-type" not in path
        if kind == "corrupt the answer" and data and not is_object:
            data = flipped(data, 0)
        self.reply(client, status, answer_headers, data, cut=kind == "cut the answer")
        return kind != "cut the answer"
