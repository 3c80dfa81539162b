"""What a page lets in and sends along.

It travels to a Space with app.py, and needs nothing but Python.
"""

from __future__ import annotations

from typing import Any

LONGEST_REQUEST = 100_000  # bytes
# What the page asks for. Of the rest that gradio serves, such as uploads and files, nothing.
OPEN_PATHS = ("/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json")
OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/")
OPEN_CALLS = ("call/", "queue/", "heartbeat/", "cancel", "info", "startup-events", "theme.css")
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "object-src 'none'; base-uri 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Lets in only what the page asks for, in requests of bounded size. ASGI middleware.

    Args:
        app: What answers the requests.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = self._refusal(scope)
        if status:
            headers = [(b"content-length", b"0")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body"})
            return

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: dict[str, Any]) -> int:
        """Return the status of a refusal; 0 if there is none."""
        path, headers = scope["path"], dict(scope["headers"])
        call = path.removeprefix("/gradio_api/") if path.startswith("/gradio_api/") else ""
        if not (path in OPEN_PATHS or path.startswith(OPEN_FOLDERS) or call.startswith(OPEN_CALLS)):
            return 404
        if scope["method"] != "POST":
            return 0
        size = headers.get(b"content-length", b"")
        if not size.isdigit():
            return 411
        return 413 if int(size) > LONGEST_REQUEST else 0
