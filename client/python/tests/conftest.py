"""A coordinator, and both interfaces to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.api import Api, AsyncioApi
from support.proxy import Proxy
from support.scripted import Answer, Scripted
from support.server import Server
from support.worker import Worker

from leasehold import Coordinator, Settings

_names = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that leave it as it is. Who failed pauses for as long as any test takes."""
    server = Server(
        tmp_path_factory.mktemp("coordinator") / "data", "--backoff-base", "60s", "--backoff-max", "60s"
    )
    yield server
    server.stop()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes coordinators of a test's own."""
    servers: list[Server] = []

    def make(*flags: str) -> Server:
        servers.append(Server(tmp_path / f"data-{len(servers)}", *flags))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(params=["threads", "asyncio"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """Each test runs with both."""
    api = Api() if request.param == "threads" else AsyncioApi()
    yield api
    api.close()


@pytest.fixture
def connect(api: Api) -> Iterator[Callable[..., Coordinator]]:
    """Makes handles, and closes them."""
    handles: list[Coordinator] = []

    def make(address: str, settings: Settings | None = None) -> Coordinator:
        handles.append(api.coordinator(address, settings))
        return handles[-1]

    yield make
    for handle in handles:
        handle.close()


@pytest.fixture
def coordinator(server: Server, connect: Callable[..., Coordinator]) -> Coordinator:
    """A handle on the coordinator of all tests."""
    return connect(server.address)


@pytest.fixture
def wire(server: Server) -> Iterator[Proxy]:
    """A way to the coordinator of all tests that can be cut."""
    proxy = Proxy(server.port)
    yield proxy
    proxy.cut()


@pytest.fixture
def name() -> str:
    """One that no other test has."""
    return f"name-{next(_names)}"


@pytest.fixture
def new_worker(api: Api) -> Iterator[Callable[[str, str], Worker]]:
    """Makes worker processes, and ends them."""
    workers: list[Worker] = []

    def make(address: str, name: str) -> Worker:
        workers.append(Worker(api.name, address, name))
        return workers[-1]

    yield make
    for worker in workers:
        worker.end()


@pytest.fixture
def script() -> Iterator[Callable[..., Scripted]]:
    """Makes coordinators that answer as they are told."""
    made: list[Scripted] = []

    def make(*answers: Answer) -> Scripted:
        made.append(Scripted(*answers))
        return made[-1]

    yield make
    for scripted in made:
        scripted.stop()
