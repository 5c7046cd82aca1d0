r"""Whether a server on the network answers at all, before a client is let loose that would ask it for a minute."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

PATIENCE = 3.0
"""Seconds for an answer."""

PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080, "socks5h": 1080}
"""Where a server listens whose address names no port."""


def answers(address: str) -> bool:
    """Whether a server, or the proxy on the way to it, says anything within :data:`PATIENCE`.

    A connection alone is not enough: a proxy takes one although there is no network behind it.

    Args:
        address: of the server, ``https://NAME``.
    """
    heard = list[bool]()

    def ask() -> None:
        with contextlib.suppress(OSError, ValueError):  # refused, silent, or no address: nobody is heard
            heard.append(_speaks(urlsplit(address)))

    asking = threading.Thread(target=ask, daemon=True)  # a name server may take longer than any patience
    asking.start()
    asking.join(PATIENCE)
    return any(heard)


def _speaks(server: SplitResult) -> bool:
    proxy = _proxy_to(server)
    near = proxy or server
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(socket.create_connection((near.hostname or "", _port(near)), PATIENCE))
        if near.scheme == "https":  # nothing is told or taken, so whose certificate it is does not matter
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            line = stack.enter_context(context.wrap_socket(line, server_hostname=near.hostname))
        place = f"{server.hostname}:{_port(server)}"
        if proxy is not None and near.scheme.startswith("socks"):
            line.sendall(b"\x05\x01\x00")  # version 5, one way to log in: none
            return bool(line.recv(1))
        ask = f"CONNECT {place}" if proxy is not None else "HEAD /"
        line.sendall(f"{ask} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
        status = line.recv(12)  # HTTP/1.1 200; a proxy without a network says 502, 503 or 504
        return bool(status) and status[9:10] != b"5"


def _proxy_to(server: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for a server, if it is not to be asked directly."""
    named = getproxies()
    found = named.get(server.scheme) or named.get("all")
    if not found or proxy_bypass(server.hostname or ""):
        return None
    return urlsplit(found if "://" in found else f"http://{found}")


def _port(server: SplitResult) -> int:
    return server.port or PORTS.get(server.scheme, 80)
