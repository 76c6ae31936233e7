"""The processes of the interop test: the coordinator, and workers that do what they are told."""

import asyncio
import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from judge import Report

START_SECONDS = 60.0
COMMAND_SECONDS = 240.0
END_SECONDS = 20.0

Command = dict[str, Any]


class Broken(Exception):
    """A process that did not do what any such process must."""


class Process:
    """A program whose lines are read as they come."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls, name: str, command: list[str], folder: Path, environment: dict[str, str] | None = None
    ) -> "Process":
        log = folder / f"{name}.log"
        # What the tester's own clients are told is not for these.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEASEHOLD_")}
        with log.open("ab") as errors:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=pipe,
                stdout=pipe,
                stderr=errors,
                limit=4 << 20,
                env=inherited | (environment or {}),
            )
        return cls(name, process, log)

    async def line(self) -> bytes:
        assert self.process.stdout
        line = await self.process.stdout.readline()
        if not line:
            raise Broken(f"{self.name} ended{self.last_words()}")
        return line

    def last_words(self) -> str:
        words = self.log.read_text(errors="replace").strip().splitlines()[-20:]
        return "".join(f"\n    {word}" for word in words)

    async def leave(self) -> None:
        """Nothing more is asked of it: it has to end by itself."""
        assert self.process.stdin
        self.process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                status = await self.process.wait()
        except TimeoutError:
            raise Broken(f"{self.name} does not end when its input does") from None
        if status != 0:
            raise Broken(f"{self.name} ended with {status}{self.last_words()}")

    async def end(self) -> None:
        """At last, and in any case."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


class Worker(Process):
    """A worker. It does one thing at a time."""

    is_killed = False

    async def ready(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            if json.loads(await self.line())["event"] != "ready":
                raise Broken(f"{self.name} does not say that it is ready")

    async def do(self, command: Command, heard: Callable[[Report], None] = lambda _: None) -> list[Report]:
        """What it said meanwhile. A worker that was killed says nothing more."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        reports: list[Report] = []
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                await self.process.stdin.drain()
                while True:
                    report = json.loads(await self.line()) | {"at": time.monotonic()}
                    if report["event"] == "done":
                        return reports
                    reports.append(report)
                    heard(report)
        except TimeoutError:
            raise Broken(f"{self.name} took longer than {COMMAND_SECONDS:.0f} s to {command['do']}") from None
        except (Broken, ConnectionError, ValueError) as error:
            # The last line of one that was killed may be half a line.
            if self.is_killed:
                return reports
            raise Broken(f"{self.name}, told to {command['do']}: {error}") from None

    def kill(self) -> None:
        self.is_killed = True
        self.process.kill()


class Access:
    """TLS and tokens, from a folder with a certificate, its key, its authority, a policy, and a token and its digest."""

    def __init__(self, folder: Path) -> None:
        self.flags = ["--auth", "token", "--policy", str(folder / "policy.toml")]
        self.flags += ["--tokens", str(folder / "tokens.toml")]
        self.flags += ["--tls-cert", str(folder / "certificate.pem"), "--tls-key", str(folder / "key.pem")]
        self.environment = {
            "LEASEHOLD_CA": str(folder / "ca.pem"),
            "LEASEHOLD_AUTH_TOKEN_FILE": str(folder / "token"),
        }


class Coordinator:
    """The coordinator, on one address and one directory, in one process after the other."""

    def __init__(
        self, program: str, folder: Path, started: list[Process], access: Access | None = None
    ) -> None:
        self.program = program
        self.folder = folder
        self.started = started
        self.access = access
        self.address = "127.0.0.1:0"

    @property
    def url(self) -> str:
        return f"{'https' if self.access else 'http'}://{self.address}"

    async def start(self) -> None:
        command = [self.program, "serve", "--listen", self.address, "--data-dir", str(self.folder / "data")]
        # Nobody is granted the lease of a render that failed for as long as this takes.
        command += ["--backoff-base", "5m", "--backoff-max", "5m"]
        command += self.access.flags if self.access else []
        self.process = await Process.start("coordinator", command, self.folder)
        self.started.append(self.process)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not (address := re.search(rb"127\.0\.0\.1:\d+", await self.process.line())):
                    pass
        except TimeoutError:
            raise Broken(
                f"the coordinator does not say where it listens{self.process.last_words()}"
            ) from None
        self.address = address.group().decode()

    async def kill_and_restart(self) -> None:
        await self.process.end()
        await self.start()

    async def stop(self) -> None:
        self.process.process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                status = await self.process.process.wait()
        except TimeoutError:
            raise Broken("the coordinator does not end by SIGTERM") from None
        if status != 0:
            raise Broken(f"the coordinator ended with {status}{self.process.last_words()}")


class Nodes(Process):
    """Two coordinators on one table and one bucket, behind what balances connections."""

    url = ""

    @classmethod
    async def start_on(cls, program: str, coordinator: str, folder: Path, started: list[Process]) -> "Nodes":
        nodes = await Nodes.start("nodes", [program, coordinator], folder)
        assert isinstance(nodes, Nodes)
        started.append(nodes)
        try:
            async with asyncio.timeout(START_SECONDS):
                nodes.url = json.loads(await nodes.line())["url"]
        except TimeoutError:
            raise Broken(f"two coordinators are not ready in time{nodes.last_words()}") from None
        return nodes

    async def end(self) -> None:
        """By the end of its input, so that its coordinators end with it: a kill would leave them running."""
        with contextlib.suppress(Broken):
            await self.leave()
        await super().end()

    async def roll(self, times: int) -> list[Report]:
        """Has one told to stop and started again, and then the other."""
        assert self.process.stdin
        reports = []
        for _ in range(times):
            # Connections come to be spread over both again.
            await asyncio.sleep(1)
            self.process.stdin.write(b"roll\n")
            await self.process.stdin.drain()
            try:
                async with asyncio.timeout(COMMAND_SECONDS):
                    reports.append(json.loads(await self.line()))
            except TimeoutError:
                raise Broken(f"a coordinator is not back in time{self.last_words()}") from None
        return reports
