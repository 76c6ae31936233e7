"""A real coordinator, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import grpc

ROOT = Path(__file__).resolve().parents[4]
START_SECONDS = 60.0


def binary() -> Path:
    """`LEASEHOLD_BIN`; else the release build, made where it is missing."""
    if named := os.environ.get("LEASEHOLD_BIN"):
        return Path(named)
    built = ROOT / "target" / "release" / "leasehold"
    if not built.exists():
        subprocess.run(
            ["cargo", "build", "--release", "--locked", "--bin", "leasehold"], cwd=ROOT, check=True
        )
    return built


class Server:
    """A coordinator on the embedded store, which keeps its address over restarts."""

    def __init__(self, data: Path, *flags: str) -> None:
        self._data = data
        self._flags = flags
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def encrypted_address(self) -> str:
        """Where it has a certificate, which is of this name."""
        return f"https://localhost:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        """Until it listens. What it writes goes to a file beside its data."""
        with self._data.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(binary()), "serve",
                    "--listen", f"127.0.0.1:{self._port}",
                    "--data-dir", str(self._data),
                    *self._flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )  # fmt: skip
        assert self._process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        said = re.search(rb"127\.0\.0\.1:(\d+)", self._process.stdout.readline())
        watchdog.cancel()
        if said is None:
            raise RuntimeError(self._data.with_suffix(".log").read_text())
        self._port = int(said.group(1))
        # What it says later has a reader, so that it never blocks.
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def kill(self) -> None:
        """As a crash does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Whatever it does."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def wait_until_it_answers(self) -> float:
        """The time at which it was first seen to."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
            with grpc.insecure_channel(f"127.0.0.1:{self._port}", options) as channel:
                try:
                    channel.unary_unary("/grpc.health.v1.Health/Check", _same, _same)(b"", timeout=1.0)
                    return time.monotonic()
                except grpc.RpcError:
                    continue
        raise TimeoutError("the coordinator did not come back")


def _same(message: bytes) -> bytes:
    return message


def dead_address() -> str:
    """Nobody listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
