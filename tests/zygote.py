"""A process that has imported everything and forks for each command: the same program, without seconds of imports each time.

`start(folder)` gives a folder whose `lamina` hands its words, place, environment and standard streams over to the process.
Started as a program it is that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

CLIENT = """#!{python} -SE
import json, os, socket, sys

server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
words = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(words).to_bytes(4, "big")], [0, 1, 2])
server.sendall(words)
status = server.recv(1)
sys.exit(status[0] if status else 70)
"""


@contextlib.contextmanager
def start(folder: Path) -> Iterator[Path]:
    """Start the process, and stop it at the end; a folder for the front of PATH."""
    address = folder / "socket"
    process = subprocess.Popen([sys.executable, __file__, str(address)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        client = bin_folder / "lamina"
        client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
        client.chmod(0o755)
        yield bin_folder
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def serve(address: str) -> None:
    """Fork for each command until somebody ends the process."""
    import importlib
    import pkgutil

    import lamina

    for module in pkgutil.walk_packages(lamina.__path__, "lamina."):
        importlib.import_module(module.name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            run(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):  # none is left
            while os.waitpid(-1, os.WNOHANG)[0] > 0:
                pass


def run(connection: socket.socket) -> None:
    """One command, in a process of its own; it does not return."""
    status = 70
    try:
        head, streams, _, _ = socket.recv_fds(connection, 4, 3)
        size, content = int.from_bytes(head, "big"), b""
        while len(content) < size:
            content += connection.recv(size - len(content))
        words, place, environment = json.loads(content)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(place)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["lamina", *words]
        if environment.get("PYTHONWARNINGS") == "error":
            warnings.simplefilter("error")
        from lamina.cli.main import main

        status = main(words)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([status]))
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
