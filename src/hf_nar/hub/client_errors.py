"""What goes wrong between here and the Hub, in one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

# The parent of all errors of the connection; its library depends on the version of the client.
ConnectionFailure = cast("type[Exception]", HfHubHTTPError.__mro__[1])
ANSWERS = {
    401: "the Hub does not accept your token. Run `hf auth login` again, or set HF_TOKEN to a "
    "valid one",
    402: "the Hub asks for payment",
    403: "your token may not do this. Give one with write access to this owner's repositories",
    404: "there is no such repository, or your token may not see it. Check the name",
    409: "the name is taken, perhaps by a repository that your token may not see. Choose another",
    412: "someone else changed the repository at the same time. Push again",
    413: "a file is too large for the Hub",
    429: "the Hub was asked too often. Wait a few minutes and push again",
}
TOKEN = re.compile(r"[\x21-\x7e]+")


@contextmanager
def explained(task: str) -> Iterator[None]:
    """Turn errors of the client in the block into one sentence each; none holds the token.

    Args:
        task: What cannot be done, such as "upload to owner/name".

    Raises:
        OSError: In the place of the client's error.
    """
    try:
        yield
    except (ConnectionFailure, RuntimeError) as error:  # the latter of large files
        raise OSError(f"Cannot {task}: {_reason(error)}.") from error
    except LocalTokenNotFoundError as error:
        raise OSError(
            f"Cannot {task}: the Hub must know who you are, but there is no token. Run "
            f"`hf auth login`, or set HF_TOKEN."
        ) from error
    except OfflineModeIsEnabled as error:
        raise OSError(f"Cannot {task}: HF_HUB_OFFLINE forbids the network. Unset it.") from error


def check_token() -> None:
    """Check that the token can stand in a request, as the client's own error would show it.

    Raises:
        ValueError: If it cannot.
    """
    token = get_token()
    if token and not TOKEN.fullmatch(token):
        raise ValueError(
            "A token of the Hub must be one word of plain letters, but yours has other characters "
            "in it. Copy it again, or run `hf auth login`."
        )


def _reason(error: BaseException | None) -> str:
    if isinstance(error, RuntimeError):
        is_told = isinstance(error.__cause__, ConnectionFailure)
        return _reason(error.__cause__) if is_told else _clean(str(error))
    response: Any = getattr(error, "response", None) if isinstance(error, HfHubHTTPError) else None
    if response is None:
        return f"there is no connection to {constants.ENDPOINT} ({_clean(str(error))})"
    status = int(response.status_code)
    answer = ANSWERS.get(status, "the Hub failed. Try again later")
    said = _clean(str(getattr(error, "server_message", None) or ""))
    return f"{answer} ({status}{': ' if said else ''}{said})"


def _clean(text: str) -> str:
    """Return what someone else wrote on one line, short, without codes that a terminal obeys."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:300].rstrip(".")
