import asyncio

import pytest

from hf_nar.demo.guard import LONGEST_REQUEST, Guard


async def page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"server", b"x")]})
    await send({"type": "http.response.body", "body": b"page"})


def answer(path, method="GET", **headers):
    """Return status, headers and body of the answer to a request."""
    sent = []

    async def send(message):
        sent.append(message)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": path, "method": method, "headers": named}
    asyncio.run(Guard(page)(scope, None, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body.get("body", b"")


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/a.js", "/gradio_api/queue/join", "/gradio_api/call/translate"]
)
def test_what_the_page_needs_is_let_in(path):
    assert answer(path)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/file=page.css",
        "/gradio_api/proxy=https://example.org",
        "/gradio_api/run/translate",
        "/gradio_api/deep_link",
        "/monitoring",
        "/docs",
        "/assetsx",
        "/queue/join",
    ],
)
def test_all_else_is_not_there(path):
    assert answer(path)[0] == 404
    assert answer(path)[2] == b""


def test_a_request_of_unknown_size_is_refused():
    assert answer("/gradio_api/queue/join", "POST")[0] == 411
    assert answer("/gradio_api/queue/join", "POST", content_length="-1")[0] == 411


def test_a_request_may_be_as_big_as_the_limit_and_not_bigger():
    call = ("/gradio_api/queue/join", "POST")

    assert answer(*call, content_length=str(LONGEST_REQUEST))[0] == 200
    assert answer(*call, content_length=str(LONGEST_REQUEST + 1))[0] == 413


def test_an_answer_tells_the_browser_to_ask_nobody_else():
    _, headers, body = answer("/")

    assert headers[b"content-security-policy"].startswith(b"default-src 'self';")
    assert b"http" not in headers[b"content-security-policy"]
    assert headers[b"server"] == b"x"
    assert body == b"page"
