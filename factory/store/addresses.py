"""Which network addresses may be connected to on behalf of data from outside."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from actors.errors import Reject

_Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    ip_address(text)
    for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
"""Where clouds serve a machine's credentials: AWS, Google, Azure (twice), Alibaba and Oracle."""


class Reach(IntEnum):
    """Which addresses a host may have.

    Attributes:
        PUBLIC: of the public internet.
        PRIVATE: also private, loopback and shared (CGNAT) ones; never link-local ones and those of cloud metadata.
        ANY: all.
    """

    PUBLIC = 0
    PRIVATE = 1
    ANY = 2


def literal(host: str) -> bool:
    """Whether a host is an address in its canonical notation, so that no name server decides what it is.

    `0x7f.1` and `2130706433` are not canonical: the system's resolver reads them, and its result is checked.
    """
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def within_reach(address: str, reach: Reach) -> bool:
    """Whether an address may be connected to. IPv4 addresses within IPv6 ones (mapped, NAT64, 6to4, Teredo) count."""
    found = ip_address(address.partition("%")[0])
    return reach is Reach.ANY or all(_allowed(one, reach) for one in _meant(found))


def socket_factory(reach: Reach) -> Callable[[Any], socket.socket]:
    """Makes the sockets of an aiohttp connector, and refuses those to addresses that are out of reach.

    This is the address that is connected to, whatever the name resolved to before.

    Raises:
        Reject: `url_not_allowed`.
    """

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not within_reach(address[0], reach):
            raise Reject(
                "url_not_allowed",
                f"its host has the address {address[0]}, which is not public; if it is to be read, put its host "
                "into source.cells.allow",
            )
        return socket.socket(family=family, type=kind, proto=protocol)

    return make


def _meant(address: _Address) -> list[_Address]:
    if isinstance(address, IPv4Address):
        return [address]
    inner: list[_Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    found = [one for one in inner if one is not None]
    # A mapped or translated address is as public as what it stands for.
    return found if address.ipv4_mapped or address in _NAT64 else [address, *found]


def _allowed(address: _Address, reach: Reach) -> bool:
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return reach is Reach.PRIVATE or (address.is_global and not address.is_reserved and not site_local)
