"""A wire that can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Proxy:
    """Passes connections on to a port of this machine, until it is cut or blocked."""

    def __init__(self, port: int) -> None:
        self.target = port
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._left = 0
        self._open: list[socket.socket] = []
        self._blocked: set[socket.socket] = set()
        self.connections = 0
        """How many were made."""
        self._listener = self._listen(0)
        self._port: int = self._listener.getsockname()[1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def wait_until_open(self, count: int) -> bool:
        """Until whoever made the connections has so many left; sooner than a coordinator gives silent ones up."""
        with self._changed:
            return self._changed.wait_for(lambda: self._left == count, timeout=10)

    def cut(self) -> None:
        """Breaks all connections, and refuses new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            broken, self._open = self._open, []
        for end in broken:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Passes new connections on again."""
        self._blocked = set()
        self._listener = self._listen(self._port)

    def block(self) -> None:
        """Swallows what comes on the connections that there are, without a word. New ones work."""
        with self._lock:
            self._blocked = set(self._open)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            with self._lock:
                self._open += [near, far]
                self.connections += 1
            self._count(1)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(near, far, -1), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, 0), daemon=True).start()

    def _count(self, change: int) -> None:
        with self._changed:
            self._left += change
            self._changed.notify_all()

    def _pump(self, source: socket.socket, sink: socket.socket, change: int) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if source in self._blocked:
                    continue
                sink.sendall(data)
        self._count(change)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
