"""A render worker in a process of its own: reads a command per line, and answers each by a line, as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from leasehold import EntryRef, Key, Policy, Rendered
from support.api import Api, AsyncioApi


class Worker:
    """The process, from outside."""

    def __init__(self, api: str, address: str, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.worker", api, address, name],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, **command: Any) -> None:
        """Sends a command, without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, **command: Any) -> Any:
        self.tell(**command)
        return self.hear()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def main(api: Api, address: str, name: str) -> None:
    coordinator = api.coordinator(address)
    data, pages = api.data(coordinator, namespace="workers"), api.pages(coordinator)
    fetches = 0

    def fetch() -> dict[str, Any]:
        nonlocal fetches
        fetches += 1
        return {"by": name, "fetch": fetches}

    for line in sys.stdin:
        command = json.loads(line)
        key = command.get("key", "")
        answer: Any
        try:
            match command["do"]:
                case "lookup":
                    answer = type(coordinator.lookup(EntryRef(key)).outcome).__name__
                case "acquire":
                    answer = type(coordinator.acquire(EntryRef(key))).__name__
                case "invalidate":
                    answer = coordinator.invalidate(Key(key))
                case "data":
                    answer = data.with_revalidate(key, 60, fetch)
                case "invalidate data":
                    answer = data.invalidate(key)
                case "fetches":
                    answer = fetches
                case "page":
                    served = pages.serve(EntryRef(key), Policy.blocking(60), lambda _: Rendered(body=name))
                    answer = [served.state.value, served.body.decode()]
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Api() if sys.argv[1] == "threads" else AsyncioApi(), sys.argv[2], sys.argv[3])
