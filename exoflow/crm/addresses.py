"""Which addresses a CRM's URL may lead to: the public internet, and the private networks an account allows.

A URL is the account's text, the server runs in our network: without this check `http://127.0.0.1:8021/` is a way in
(facts, faults-security-status.md section 5, SSRF).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# these lead into other networks although they look global, or are nothing a CRM lives in
_NEVER_PUBLIC: tuple[tuple[IPNetwork, str], ...] = (
    (ipaddress.ip_network("64:ff9b::/96"), "a NAT64 address"),
    (ipaddress.ip_network("64:ff9b:1::/48"), "a NAT64 address"),
    (ipaddress.ip_network("2002::/16"), "a 6to4 address"),
    (ipaddress.ip_network("2001::/32"), "a Teredo address"),
    (ipaddress.ip_network("192.88.99.0/24"), "a 6to4 relay address"),
    (ipaddress.ip_network("100.64.0.0/10"), "a carrier-grade NAT address"),
)


def networks(texts: Iterable[str]) -> tuple[IPNetwork, ...]:
    """An account's `allow_private`. Raises ValueError for what is no network."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def why_refused(address: str, allowed: Iterable[IPNetwork] = ()) -> str | None:
    """What speaks against connecting to this numeric address; None if nothing does."""
    ip: IPAddress = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:  # ::ffff:127.0.0.1 is 127.0.0.1
        ip = mapped
    if any(ip in network for network in allowed):
        return None
    return _kind(ip)


def _kind(ip: IPAddress) -> str | None:
    for network, kind in _NEVER_PUBLIC:
        if ip in network:
            return kind
    for is_it, kind in (
        (ip.is_loopback, "a loopback address"),
        (ip.is_unspecified, "the unspecified address"),
        (ip.is_link_local, "a link-local address"),
        (ip.is_multicast, "a multicast address"),  # is_global is true of these
        (ip.is_reserved, "a reserved address"),
        (ip.is_private, "a private address"),
        (not ip.is_global, "not a public address"),
    ):
        if is_it:
            return kind
    return None
