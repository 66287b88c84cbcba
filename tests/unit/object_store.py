"""A small stand-in for an object store: listing and fetching over HTTP, and what may go wrong.

It answers ListObjectsV2, HEAD and GET (with byte ranges) for addresses of the form /bucket/key,
which is what a download from a public bucket needs.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd

from petct.imaging_data_commons import COLUMNS

BUCKET = "bucket"


class Store(ThreadingHTTPServer):
    """``objects`` by key. ``cut``: bytes after which the connection ends, by key; ``hidden``: keys
    that are not listed. ``fetched``: the keys of all GET requests so far."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.hidden: set[str] = set()
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add_series(self, name: str, files: list[Path]) -> dict[str, Any]:
        """Offer files as one series; returns its columns of the index."""
        contents = [path.read_bytes() for path in files]
        for number, content in enumerate(contents):
            self.objects[f"{name}/{number:03d}.dcm"] = content
        return {
            "crdc_series_uuid": name,
            "series_aws_url": f"s3://{BUCKET}/{name}/*",
            "instanceCount": len(files),
            "series_size_MB": sum(map(len, contents)) / 1e6,
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        key = urllib.parse.unquote(address.path).removeprefix(f"/{BUCKET}").lstrip("/")
        if not key:
            query = urllib.parse.parse_qs(address.query)
            self._answer(200, self._listing(query.get("prefix", [""])[0]))
        elif key not in self.server.objects:
            self._answer(404, b"")
        else:
            self._send_object(key)

    def _listing(self, prefix: str) -> bytes:
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key, content in sorted(self.server.objects.items())
            if key.startswith(prefix) and key not in self.server.hidden
        )
        return (
            '<?xml version="1.0"?><ListBucketResult>'
            f"<Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        ).encode()

    def _send_object(self, key: str) -> None:
        content = self.server.objects[key]
        start, end = 0, len(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(end, int(asked[2]) + 1)
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"} if asked else {}
        if self.command == "GET":
            self.server.fetched.append(key)
        after = self.server.cut.get(key) if self.command == "GET" else None
        self._answer(206 if asked else 200, content[start:end], headers, after)

    def _answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut_after: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut_after])
        if cut_after is not None:
            self.close_connection = True


@contextmanager
def open_store() -> Iterator[Store]:
    """A store on a free port of this machine, with a thread of its own."""
    store = Store()
    thread = Thread(target=store.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        store.shutdown()
        store.server_close()
        thread.join()


def index_row(
    patient: str, study: str, modality: str, series: dict[str, Any], description: str = ""
) -> dict[str, Any]:
    """A row of the index in its columns, with licence and citation."""
    return {
        "collection_id": "tiny_lesions",
        "PatientID": patient,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.{modality}",
        "Modality": modality,
        "SeriesDescription": description,
        "license_short_name": "CC BY 4.0",
        "source_DOI": "10.1234/tiny",
        **series,
    }


def write_index(path: Path, rows: list[dict[str, Any]]) -> Path:
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(path)
    return path
