"""The demonstration's webhook endpoint: prints who said what, and takes nine events in ten, so that retries can be watched."""

import itertools
import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 9000
EVERY = 10
"""Each tenth request is answered 503."""

requests = itertools.count(1)


class Endpoint(BaseHTTPRequestHandler):
    """Answers POSTs. A real one verifies the signature first."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        failing = next(requests) % EVERY == 0
        if not failing:
            data = event["data"]
            said = f"{data['leg']['party']}: {data['turn']['text']}" if event["type"] == "turn.final" else event["type"]
            sys.stdout.write(f"{data['call']['id']}  {said}\n")
        self.send_response(HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.NO_CONTENT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Endpoint).serve_forever()
