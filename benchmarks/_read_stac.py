"""The smallest STAC API that pystac-client searches: a landing page and one page of the items of a time range, at once."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["StacServer"]

_CONFORMS = [f"https://api.stacspec.org/v1.0.0/{part}" for part in ("core", "item-search", "collections")]


class StacServer:
    """Serves items in the background; use it as a context manager."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        known = [(item["properties"]["datetime"], json.dumps(item)) for item in items]

        def page(interval: str) -> bytes:
            # Times in one format compare as texts; ".." and what is absent are open ends.
            first, _, last = interval.partition("/")
            low, high = first.strip("."), last.strip(".") or "9"
            found = ",".join(text for when, text in known if low[:10] <= when[:10] <= high[:10])
            return f'{{"type": "FeatureCollection", "links": [], "features": [{found}]}}'.encode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host = f"http://{self.headers['Host']}"
                links = [
                    {"rel": "self", "href": host, "type": "application/json"},
                    {"rel": "root", "href": host, "type": "application/json"},
                    {"rel": "search", "href": f"{host}/search", "type": "application/geo+json", "method": "POST"},
                    {"rel": "search", "href": f"{host}/search", "type": "application/geo+json", "method": "GET"},
                ]
                root = {
                    "type": "Catalog",
                    "id": "bench",
                    "description": "bench",
                    "stac_version": "1.0.0",
                    "conformsTo": _CONFORMS,
                    "links": links,
                }
                asked = parse_qs(urlsplit(self.path).query).get("datetime", [""])[0]
                self._send(page(asked) if self.path.startswith("/search") else json.dumps(root).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
                self._send(page(body.get("datetime") or ""))

            def _send(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/geo+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StacServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
