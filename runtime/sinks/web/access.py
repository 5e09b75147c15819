"""Where the page listens, and who may look."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import dataclass

from edgedet.errors import SinkError

__all__ = ["DEFAULT_PORT", "Address", "is_named_safely", "same_token"]

DEFAULT_PORT = 8000
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """A host name or IP address, and a port; port 0 stands for any free one."""

    host: str = _LOOPBACK
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``[HOST:]PORT``; an IPv6 host stands in brackets.

        Raises:
            SinkError: if it is not that.
        """
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if (colon and not bare) or (":" in bare and bare == host) or not (port.isascii() and port.isdigit()):
            raise _not_an_address(text)
        if int(port) > 65535:
            raise _not_an_address(text)
        return cls(bare or _LOOPBACK, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def url(self) -> str:
        """What to open in a browser; for "all interfaces" the address under which the network knows this machine."""
        host = _own_address(self.host) if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104  # compared only
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def same_token(token: str, given: str | None) -> bool:
    """Compare in a time that does not depend on how much is right."""
    return given is not None and hmac.compare_digest(token.encode(), given.encode())


def is_named_safely(host_header: str | None) -> bool:
    """Tell whether a request names this machine in a way that no foreign web page can bring about.

    A page of somebody else's domain, whose name is made to point here (DNS rebinding), would be allowed to read
    everything; its requests carry that domain's name, while an IP address or a name of this machine can be nobody's.
    """
    name = (host_header or "").rpartition("@")[2]
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    own = socket.gethostname().lower()
    if name.lower() in ("localhost", own, f"{own.partition('.')[0]}.local"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_address(unspecified: str) -> str:
    """Return the address of the interface that leads outside; nothing is sent to find it out."""
    six = ":" in unspecified
    family, somewhere = (socket.AF_INET6, "2001:db8::1") if six else (socket.AF_INET, "192.0.2.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((somewhere, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "::1" if six else _LOOPBACK


def _not_an_address(text: str) -> SinkError:
    return SinkError("[HOST:]PORT", repr(text), "Write for example --web 8000, --web 0.0.0.0:8000 or --web [::]:8000")
