"""The addresses of the configuration: ours under which carriers come, the service's, and those that events go to."""

import ipaddress
from ipaddress import IPv4Network, IPv6Network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.config.values import Written

ASSEMBLYAI_URL: Final = "wss://streaming.assemblyai.com"

Networks = tuple[IPv4Network | IPv6Network, ...]

# Never dialled, whatever is allowed: link-local, and the metadata service's IPv6 address.
FORBIDDEN_RANGES: Final[Networks] = (
    ipaddress.IPv4Network("169.254.0.0/16"),
    ipaddress.IPv6Network("fe80::/10"),
    ipaddress.IPv6Network("fd00:ec2::254/128"),
)


def _split(url: str) -> SplitResult | None:
    """The parts of an absolute URL with a scheme in lower case, a host and a legal port, or None."""
    try:
        parts = urlsplit(url)
        legal = bool(parts.hostname) and parts.port != 0 and url.startswith(f"{parts.scheme}://")
    except ValueError:
        return None
    return parts if legal and url.isascii() and " " not in url and "\\" not in url else None


def public_url(written: Written) -> str | None:
    url = written.text("public_url")
    if url is None:
        return None
    label = written.raw("public_url")[1]
    parts = _split(url)
    if parts is None or parts.scheme != "https":
        written.fault(
            f"{label} must be the https:// address under which carriers reach the gateway, as https://gateway.example.com"
        )
        return None
    if parts.netloc != parts.netloc.lower():
        written.fault(f"{label} must have its host in lower case: Twilio signs it letter by letter")
        return None
    if parts.username is not None or parts.query or parts.fragment or "?" in url or "#" in url:
        written.fault(f"{label} must have no user, query or fragment")
        return None
    return url.rstrip("/")


def assemblyai_url(written: Written) -> str:
    url = written.text("assemblyai_url")
    if url is None:
        return ASSEMBLYAI_URL
    label = written.raw("assemblyai_url")[1]
    parts = _split(url)
    if parts is None or parts.scheme not in {"wss", "ws"}:
        written.fault(f"{label} must be a wss:// address, as {ASSEMBLYAI_URL}")
        return ASSEMBLYAI_URL
    if parts.scheme == "ws" and not _is_loopback(parts.hostname or ""):
        written.fault(
            f"{label} may be ws:// only to this machine (127.0.0.1, ::1, localhost): audio and key would go in the clear"
        )
    if parts.username is not None or parts.path.rstrip("/") or parts.query or parts.fragment:
        written.fault(f"{label} must be scheme and host alone; the gateway adds /v3/ws")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def cidrs(written: Written) -> Networks:
    found: list[IPv4Network | IPv6Network] = []
    label = written.raw("webhook_allow_cidrs")[1]
    for place, entry in enumerate(written.entries("webhook_allow_cidrs"), 1):
        try:
            network = ipaddress.ip_network(entry)
        except ValueError:
            written.fault(
                f"{label}, entry {place}, must be an address range such as 10.0.0.0/8, with no bits set behind its length"
            )
            continue
        if any(network.version == shut.version and network.subnet_of(shut) for shut in FORBIDDEN_RANGES):  # type: ignore[arg-type]  # versions are equal
            written.fault(f"{label}, entry {place}, is link-local or a metadata address: webhooks never go there")
            continue
        found.append(network)
    return tuple(found)


def webhook_url(written: Written, cidrs: Networks) -> str:
    url = written.text("webhook_url")
    if url is None:
        if written.raw("webhook_url")[0] is None:
            written.fault("GATEWAY_WEBHOOK_URL is required: where events go")
        return ""
    return delivery_url(url, written.raw("webhook_url")[1], cidrs, written.findings.faults) or ""


def delivery_url(url: str, label: str, cidrs: Networks, faults: list[str]) -> str | None:
    """A URL that events may go to. Names are not resolved here: an address is checked when it is dialled."""
    parts = _split(url)
    if parts is None or parts.scheme not in {"https", "http"}:
        faults.append(f"{label} must be an https:// address")
        return None
    if parts.username is not None or parts.fragment:
        faults.append(f"{label} must have no user, password or fragment: receivers check the signature")
        return None
    if parts.scheme == "http" and not cidrs:
        faults.append(
            f"{label} must be https://; http:// is allowed only into the ranges of GATEWAY_WEBHOOK_ALLOW_CIDRS"
        )
        return None
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return url
    within = any(address in network for network in cidrs)
    if any(address in shut for shut in FORBIDDEN_RANGES):
        faults.append(f"{label} is link-local or a metadata address: webhooks never go there")
        return None
    if not within and (parts.scheme == "http" or not address.is_global):
        faults.append(f"{label} names an address outside the ranges of GATEWAY_WEBHOOK_ALLOW_CIDRS")
        return None
    return url
