"""A proxy before an S3 server, which notes the requests, and answers for a while that the service is unavailable."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_OF_THE_BODY = ("expect", "transfer-encoding", "content-length")
_OF_THE_ANSWER = ("connection", "transfer-encoding", "keep-alive", "content-length", "date", "server")


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server.

    Attributes:
        endpoint: its address.
        requests: the requests so far by what they do, as ``PUT``, ``LIST`` or ``DELETE MANY``.
        refused: how many were refused.
        down: while it is set, every request is answered with 503.
    """

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server_host, self.endpoint = urlsplit(server).netloc, f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[str] = []
        self.refused = 0
        self.down = threading.Event()

    def go_down(self, seconds: float) -> None:
        """Be unavailable for so many seconds from now on."""
        self.down.set()
        threading.Timer(seconds, self.down.clear).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        body = self._body()
        if self.down():
            return
        self.server.requests.append(kind(self.command, self.path))
        connection = http.client.HTTPConnection(self.server.server_host, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_BODY}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_THE_ANSWER:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while length := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        while self.rfile.readline().strip():
            continue
        return b"".join(parts)

    def down(self) -> bool:
        """Refuse the request while the server is down; return whether it is."""
        if not self.server.down.is_set():
            return False
        self.server.refused += 1
        content = b"" if self.command == "HEAD" else b"<Error><Code>ServiceUnavailable</Code></Error>"
        self.send_response(503)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def kind(method: str, path: str) -> str:
    """Return what a request does."""
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    if method == "GET" and "list-type" in query:
        return "LIST"
    if method == "POST" and "delete" in query:
        return "DELETE MANY"
    return method


@contextmanager
def proxied(server: str) -> Iterator[Proxy]:
    """Serve a proxy of a server until the end of the block."""
    with Proxy(server) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
