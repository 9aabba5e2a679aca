"""A web server in the test: what it answers is a function of the request."""

import contextlib
import http.server
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

Request = http.server.BaseHTTPRequestHandler


@contextlib.contextmanager
def serving(answer: Callable[[Request], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serves until the block ends; gives the server's address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):  # who asked has gone
                answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as listening:
        if tls is not None:
            listening.socket = tls.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http{'s' if tls else ''}://localhost:{listening.server_address[1]}"
        finally:
            listening.shutdown()


def head(request: Request, status: int, **headers: str | int) -> None:
    """Status line and headers; an underscore in a header's name stands for a hyphen."""
    request.send_response(status)
    request.send_header("Connection", "close")
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), str(value))
    request.end_headers()


def asked_from(request: Request) -> int:
    """The byte that a request's Range begins with; 0 without one."""
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range") or "")
    return int(asked[1]) if asked else 0


def begin(request: Request, data: bytes) -> bytes:
    """Head of an answer with what is asked for of the data, as a plain web server gives it; the bytes to send."""
    start, tag = asked_from(request), f'"{len(data)}"'
    if request.headers.get("If-Range") not in (None, tag):
        start = 0
    if start >= len(data):
        head(request, 416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
        return b""
    if start:
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        head(request, 206, Content_Range=span, Content_Length=len(data) - start, ETag=tag)
    else:
        head(request, 200, Content_Length=len(data), ETag=tag)
    return data[start:]
