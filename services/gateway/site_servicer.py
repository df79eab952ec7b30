"""SiteService: health for load balancers and the page for browsers."""

from __future__ import annotations

import hashlib
import importlib.resources
import json

from google.api import httpbody_pb2

from darkroom.v1 import site_service_pb2 as pb
from darkroom.v1.site_service_pb2_grpc import SiteServiceServicer
from libs.rpc import headers
from services.gateway.callers.identity import Context, headers_of
from services.gateway.health import HealthCheck
from services.gateway.reading.downloads import matches

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' blob: data:; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class SiteServicer(SiteServiceServicer):
    """Serves the two documents."""

    def __init__(self, health: HealthCheck, page: bytes) -> None:
        self._health = health
        self._page = page
        self._tag = hashlib.sha256(page).hexdigest()[:32]

    async def GetHealth(self, _request: pb.GetHealthRequest, _context: Context) -> httpbody_pb2.HttpBody:
        """Answer 200 when a job could be accepted and run, else 503 naming what is missing."""
        health = await self._health.check()
        status = "unavailable" if health.missing else "ok"
        headers.add([("cache-control", "no-store"), ("x-http-code", "503" if health.missing else "200")])
        document = {"status": status, "missing": health.missing, "parts": health.parts}
        return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(document).encode())

    async def GetPage(self, _request: pb.GetPageRequest, context: Context) -> httpbody_pb2.HttpBody:
        """Answer the page, or 304 when the browser has it."""
        headers.add(
            [
                ("etag", f'"{self._tag}"'),
                ("cache-control", "no-cache"),
                ("content-security-policy", _POLICY),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
            ]
        )
        if matches(headers_of(context).get("if-none-match", ""), self._tag):
            headers.add([("x-http-code", "304")])
            return httpbody_pb2.HttpBody(content_type="text/html; charset=utf-8")
        return httpbody_pb2.HttpBody(content_type="text/html; charset=utf-8", data=self._page)


def load_page() -> bytes:
    """Return the page as it is shipped."""
    return (importlib.resources.files("services.gateway") / "web" / "index.html").read_bytes()
