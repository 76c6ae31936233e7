"""moto on a free port of loopback, one request at a time. Its first line says which port.

moto itself answers in threads, and takes a transaction back by putting the whole table back as it was before: whatever others
wrote meanwhile is gone. Events of the log vanish so that were acknowledged.
"""

import os
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server


def one_at_a_time(application):
    lock = threading.Lock()

    def answer(environ, start_response):
        with lock:
            return application(environ, start_response)

    return answer


# Threads all the same: a connection that nobody sends anything on would hold up all others.
server = make_server(
    "127.0.0.1",
    0,
    one_at_a_time(DomainDispatcherApplication(create_backend_app)),
    threaded=True,
    request_handler=MotoRequestHandler,
)
os.environ["MOTO_PORT"] = str(server.server_port)
print(server.server_port, flush=True)
server.serve_forever()
