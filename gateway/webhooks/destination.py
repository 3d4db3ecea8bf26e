"""
Where webhooks may go: the URL as configured, and the address that is really dialled.

The address is judged at every connection, after the name was resolved, so that a name which resolves to something else
the second time gains nothing. Ranges are those of IANA's special-purpose registries (RFC 6890 and its successors).
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from yarl import URL

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


NEVER = _networks(
    "0.0.0.0/8",  # "this network"; Linux takes 0.0.0.0 for itself
    "169.254.0.0/16",  # link-local, and most clouds' metadata
    "100.100.100.200/32",  # Alibaba Cloud's metadata
    "168.63.129.16/32",  # Azure's wire server: a public address that is none
    "192.0.0.192/32",  # Oracle Cloud's metadata
    "224.0.0.0/4",  # multicast
    "255.255.255.255/32",
    "::/128",
    "::ffff:0:0:0/96",  # v4-translated (SIIT)
    "64:ff9b::/96",  # NAT64 may lead to any IPv4 address
    "64:ff9b:1::/48",
    "100::/64",  # discard
    "2001::/32",  # Teredo, likewise
    "2002::/16",  # 6to4, likewise
    "5f00::/16",  # SRv6
    "fd00:ec2::/32",  # AWS metadata over IPv6
    "fd20:ce::254/128",  # Google Cloud's
    "fe80::/10",  # link-local
    "fec0::/10",  # site-local, once
    "ff00::/8",  # multicast
)
"""Refused whatever the operator allows."""

PRIVATE = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # shared address space of carriers' NAT
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",  # 6to4 relays
    "192.168.0.0/16",
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "::1/128",
    "2001:db8::/32",
    "3fff::/20",  # documentation
    "fc00::/7",
)
"""Refused unless the operator allows the range."""

_V4_COMPATIBLE = ip_network("::/96")


def refusal(address: str, allowed: Iterable[Network], *, secure: bool) -> str | None:
    """
    Say why *address* must not be dialled; None where it may.

    `secure`: the connection will be TLS. Without it only the allowed ranges are open.
    """
    try:
        ip: Address = ip_address(address.partition("%")[0])
    except ValueError:
        return "not an IP address"
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _V4_COMPATIBLE and int(ip) > 1:
            return "an IPv4 address in disguise"
    if any(ip in network for network in NEVER if network.version == ip.version):
        return "link-local, metadata, multicast or tunnelled"
    if any(ip in network for network in allowed if network.version == ip.version):
        return None
    if not ip.is_global or any(ip in network for network in PRIVATE if network.version == ip.version):
        return "private, and in no allowed range"
    return None if secure else "public, and not https"


def url_fault(url: str) -> str | None:
    """Say why *url* can never be an endpoint; None where it may be one. Whether its address is allowed is said when it is dialled."""
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError:
        return "not a URL"
    if parsed.scheme not in {"http", "https"}:
        return "not http:// or https://"
    if not host:
        return "no host"
    if parsed.user is not None or parsed.password is not None:
        return "user information in the URL"
    if not port:
        return "port 0"
    return None
