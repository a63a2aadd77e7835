"""Bytes to a server and bytes back, for what no HTTP library would send."""

import contextlib
import socket
from collections.abc import Iterable

TIMEOUT = 30.0


class Wire:
    """One connection. Use as a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=TIMEOUT)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_while_it_listens(self, pieces: Iterable[bytes]) -> int:
        """Send until the server answers or hangs up; the number of bytes sent."""
        sent = 0
        for piece in pieces:
            if self._has_answer():
                break
            try:
                self.socket.sendall(piece)
            except OSError:  # the server does not want more of it
                break
            sent += len(piece)
        return sent

    def _has_answer(self) -> bool:
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK)) or True
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT)

    def status(self) -> int:
        """The status of the next answer; 0 when the server hung up without one."""
        head = b""
        while b"\r\n" not in head:
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                return 0
            if not piece:
                return 0
            head += piece
        return int(head.split(b" ", 2)[1])

    def end(self) -> None:
        """Say that nothing more will come."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def rest(self) -> bytes:
        """Everything until the server hangs up."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := self.socket.recv(65536):
                data += piece
        return data

    def close_hard(self) -> None:
        """Reset the connection instead of ending it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()


def request(method: str, path: str, project: str, *headers: str, client: str | None = None) -> bytes:
    """The head of a request."""
    client = client or "3381af92-2b9e-11e3-b191-71861300734c"
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: test",
        f"Client-ID: {client}",
        f"X-Project-ID: {project}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
