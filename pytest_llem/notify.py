"""Post a message to a webhook: once, within a deadline, and without a word about its address.

The address of a webhook is its password: whoever knows it may post. So nothing here tells more of it than scheme and
host, no error's own text is passed on, and a redirect is not followed. It imports the standard library alone, and that
late, so that a process which waits for days stays small.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

DEADLINE_S = 10.0
"""For all of it: the name, the connection, the handshake, the request and the answer's status."""


def send(url: str, payload: Mapping[str, Any], *, deadline_s: float = DEADLINE_S) -> str | None:
    """Post `payload` as JSON, with the proxies of the environment; return why it failed, or None.

    What takes longer than the deadline is left behind in a thread that ends with the process. Nothing is raised.

    Args:
        url: of the webhook; user and password in it become basic authentication.
        payload: what JSON can say.
        deadline_s: for all of it.
    """
    found: list[str | None] = []
    thread = threading.Thread(
        target=lambda: found.append(_post(url, payload, deadline_s)), name="llem-notify", daemon=True
    )
    thread.start()
    thread.join(deadline_s)
    problem = found[0] if found else f"no answer within {deadline_s:g} s"
    return f"notification not delivered to {origin(url)}: {problem}" if problem else None


def origin(url: str) -> str:
    """Return what may be shown of an address: `https://hooks.example.org/…`."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.hostname}{port}/…"


def _post(url: str, payload: Mapping[str, Any], deadline_s: float) -> str | None:
    """Return why the message was not taken, in words that hold no part of the address."""
    from urllib.error import HTTPError, URLError  # noqa: PLC0415 - see above

    try:
        _opener().open(_request(url, payload), timeout=deadline_s).close()  # the answer's body is not read
    except HTTPError as error:
        with error:
            return _refusal(error.code, error.headers.get("Location"))
    except URLError as error:
        return _reason(error.reason)
    except Exception as error:  # noqa: BLE001 - a session does not fail because nobody hears of it
        return _reason(error)
    return None


def _request(url: str, payload: Mapping[str, Any]) -> Any:
    import json  # noqa: PLC0415 - see above
    from base64 import b64encode  # noqa: PLC0415
    from urllib.request import Request  # noqa: PLC0415

    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    headers = {"Content-Type": "application/json", "User-Agent": "pytest-llem"}
    if at:
        headers["Authorization"] = f"Basic {b64encode(unquote(user).encode()).decode()}"
    bare = urlunsplit(parts._replace(netloc=place, fragment=""))
    return Request(bare, json.dumps(payload).encode(), headers, method="POST")  # noqa: S310 - checked as http(s)


def _opener() -> Any:
    from urllib.request import HTTPRedirectHandler, build_opener  # noqa: PLC0415 - see above

    class NoRedirect(HTTPRedirectHandler):
        """Takes a redirect for the failure that it is: followed, a POST becomes a GET, or goes to somebody else."""

        def redirect_request(self, *_: Any) -> None:
            return None

    return build_opener(NoRedirect)


def _refusal(status: int, location: str | None) -> str:
    if not 300 <= status < 400:
        return f"it answered {status}"
    target = f" to {origin(location)}" if location and "://" in location else ""
    return f"it answered {status}, a redirect{target}, which is not followed: set notify.webhook_url to where it leads"


def _reason(error: object) -> str:
    """Return what went wrong. Messages of libraries are not passed on: some quote the address."""
    import ssl  # noqa: PLC0415 - see above

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    strerror = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}{f' ({strerror})' if strerror else ''}"
