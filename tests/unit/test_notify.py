"""Posting to a webhook: once, in time, and without a word about its address."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.notify import origin, send
from receiver import SECRET, Receiver, receiving

ROOT = Path(__file__).parents[2]
PAYLOAD = {"text": "three cycles: 12 °C", "n": 3}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with receiving() as found:
        yield found


@pytest.mark.parametrize("manner", ["take", "take quietly"])
def test_a_message_is_posted_as_json(receiver: Receiver, manner: str) -> None:
    """The whole payload arrives once, as JSON, at the whole address; any answer from 200 to 299 is good."""
    receiver.manner = manner
    assert send(receiver.url, PAYLOAD) is None
    ((method, path, headers),) = receiver.requests
    assert (method, path) == ("POST", f"/services/{SECRET}?key={SECRET}")
    assert headers["Content-Type"] == "application/json"
    assert receiver.messages == [PAYLOAD]


def test_user_and_password_become_a_header(receiver: Receiver) -> None:
    """What stands before the @ is basic authentication, decoded, and no part of the host."""
    assert send(receiver.url.replace("http://", "http://me:p%40ss@"), PAYLOAD) is None
    assert receiver.requests[0][2]["Authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("refuse", "it answered 403"),
        ("fail", "it answered 500"),
        ("hang up", "RemoteDisconnected"),
        ("talk nonsense", "BadStatusLine"),
    ],
)
def test_a_failure_is_one_line_without_the_address(receiver: Receiver, manner: str, words: str) -> None:
    """Whatever the other side does, one line says it, with scheme and host and nothing more of the address."""
    receiver.manner = manner
    problem = send(receiver.url, PAYLOAD)
    assert problem is not None
    assert problem.startswith(f"notification not delivered to {receiver.origin}/…: {words}")
    assert SECRET not in problem
    assert "\n" not in problem


@pytest.mark.parametrize("manner", ["hang", "drip"])
def test_a_receiver_that_takes_its_time_is_left(receiver: Receiver, manner: str) -> None:
    """No answer, and an answer of one byte at a time, end at the deadline."""
    receiver.manner = manner
    problem = send(receiver.url, PAYLOAD, deadline_s=0.3)
    assert problem is not None
    assert "no answer" in problem


def test_a_redirect_is_told_and_not_followed(receiver: Receiver) -> None:
    """Nothing is sent to where a redirect leads; the line names its host, and no more of it."""
    with receiving() as other:
        receiver.manner, receiver.location = "redirect", other.url
        problem = send(receiver.url, PAYLOAD)
        assert other.requests == []
    assert problem is not None
    assert f"a redirect to {other.origin}/…, which is not followed" in problem
    assert SECRET not in problem


def test_a_closed_port_is_refused() -> None:
    """Where nobody listens the line says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    problem = send(f"http://127.0.0.1:{port}/{SECRET}", PAYLOAD)
    assert (
        problem
        == f"notification not delivered to http://127.0.0.1:{port}/…: ConnectionRefusedError (Connection refused)"
    )


def test_a_name_that_nobody_knows() -> None:
    """A host without an address is told by the resolver's words."""
    problem = send(f"https://nowhere.invalid/{SECRET}", PAYLOAD)
    assert problem is not None
    assert "gaierror" in problem
    assert SECRET not in problem


def test_a_server_without_tls(receiver: Receiver) -> None:
    """An https address at a plain server fails in the handshake, within the deadline."""
    problem = send(receiver.url.replace("http:", "https:"), PAYLOAD)
    assert problem is not None
    assert "SSLError" in problem
    assert SECRET not in problem


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(st.characters(codec="utf-8"), max_size=30))
def test_an_address_shows_no_path(user: str, path: str) -> None:
    """Whatever stands around the host of an address, what is shown of it is scheme, host and port."""
    safe = "".join(c for c in user if c not in "/?#@[]\\")
    shown = origin(f"https://{safe}@hooks.example.org:8443/{path}")
    assert shown in {"https://hooks.example.org:8443/…", "an address that cannot be read"}


def test_sending_needs_the_standard_library_alone() -> None:
    """A process that imports it, such as one that waits for days, imports no library and not yet the network's."""
    code = (
        "import sys, pytest_llem.notify as n\n"
        "names = {m.partition('.')[0] for m in sys.modules}\n"
        "print(sorted(names - set(sys.stdlib_module_names) - {'__main__', 'pytest_llem'}),"
        " 'ssl' in sys.modules, 'http.client' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.split("\n")[0] == "[] False False"


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[str]:
    """The address of a server with a certificate that nobody vouches for."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
    command = ["openssl", "req", "-x509", *made, "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with receiving() as found:
        found.wrap(context)
        yield found.url.replace("http:", "https:")


def test_a_certificate_that_nobody_vouches_for(self_signed: str) -> None:
    """A message is for whom its address names: a server that cannot prove to be it gets none."""
    problem = send(self_signed, PAYLOAD)
    assert problem is not None
    assert "its certificate is not accepted (self" in problem
    assert SECRET not in problem
