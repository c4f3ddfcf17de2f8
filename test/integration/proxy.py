"""A TCP relay in front of a server: can be made slow, silent or absent, without touching the server."""
import contextlib
import socket
import threading
import time

from pgserver import free_port, release_port


class Proxy:
    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.port = free_port()
        self.bytes_per_s = None  # of what the server sends; None: no limit
        self.listener, self.pairs = None, []
        self.lock = threading.Lock()
        self.open()

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def close(self):
        """Connections are refused from now on, and the ones that there are end."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            self.end(pair)

    def destroy(self):
        self.close()
        release_port(self.port)

    @staticmethod
    def end(pair):
        for s in pair:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            with self.lock:
                self.pairs.append(pair)
            threading.Thread(target=self.relay, args=(pair, client, server, False), daemon=True).start()
            threading.Thread(target=self.relay, args=(pair, server, client, True), daemon=True).start()

    def relay(self, pair, source, sink, limited):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(16384)
                if not data:
                    break
                sink.sendall(data)
                if limited and self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
        self.end(pair)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.destroy()
