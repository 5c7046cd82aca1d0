"""Whether the hub, or a proxy on the way to it, answers: what refuses, keeps silent or has no network behind it."""

import socket
import threading

import huggingface_hub
import pytest

import emlib
from emlib.hub import reach


@pytest.fixture
def listening(monkeypatch):
    """Makes a server on this machine that says the same to everyone, or nothing; gives its port and what it heard."""
    # only for those that are waited for: a silent one
    monkeypatch.setattr(reach, "PATIENCE", 20.0)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    servers = []

    def listen(says):
        server, heard = socket.create_server(("127.0.0.1", 0)), []
        servers.append(server)

        def serve():
            while True:
                try:
                    line, _ = server.accept()
                except OSError:  # closed: the test is over
                    return
                with line:
                    heard.append(line.recv(200))
                    line.sendall(says)

        if says is not None:
            threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1], heard

    yield listen
    for server in servers:
        server.close()


def refused():
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("says", "well"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", True),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", True),  # the client knows the password
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", False),
        (b"", False),
    ],
)
def test_a_proxy_counts_if_there_is_a_network_behind_it(listening, monkeypatch, says, well):
    port, heard = listening(says)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    assert reach.answers("https://hub.invalid") is well
    assert heard[0].startswith(b"CONNECT hub.invalid:443 HTTP/1.1\r\n")


@pytest.mark.parametrize("scheme", ["", "http://", "socks5://", "nonsense://"])
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_proxy_that_refuses_or_keeps_silent_is_none(listening, monkeypatch, scheme, kind):
    monkeypatch.setattr(reach, "PATIENCE", 0.2 if kind == "silent" else 20.0)
    port = refused() if kind == "refused" else listening(None)[0]
    monkeypatch.setenv("https_proxy", f"{scheme}127.0.0.1:{port}")
    assert not reach.answers("https://hub.invalid")


@pytest.mark.parametrize(("says", "well"), [(b"HTTP/1.1 404 Not Found\r\n\r\n", True), (b"", False), (None, False)])
def test_a_server_asked_directly_answers_or_does_not(listening, monkeypatch, says, well):
    port, _ = listening(says)
    monkeypatch.setattr(reach, "PATIENCE", 0.2 if says is None else 20.0)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{refused()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert reach.answers(f"http://127.0.0.1:{port}") is well
    assert not reach.answers(f"http://127.0.0.1:{refused()}")
    assert not reach.answers(f"https://127.0.0.1:{port}")  # speaks, but not so


def test_behind_a_dead_proxy_the_hubs_client_does_not_ask(listening, monkeypatch):
    """It would ask again and again, for most of a minute."""
    asked = []

    def download(repo, name):
        asked.append(huggingface_hub.constants.HF_HUB_OFFLINE)
        raise huggingface_hub.utils.LocalEntryNotFoundError(name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{refused()}")
    with pytest.raises(FileNotFoundError, match="no/such-repo, and the Hugging Face hub cannot be reached"):
        emlib.load_pretrained("no/such-repo")
    assert asked
    assert all(asked)
