"""Which network addresses are on the internet."""

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")  # RFC 3879: no longer used, and never on the internet


def is_public(text: str) -> bool:
    """Whether an address is a host's on the internet: not this machine, a private network, a cloud's metadata service,
    a group (multicast), or reserved.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, NAT64) is judged by that.

    Raises:
        ValueError: it is no address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(str(ipaddress.IPv4Address(address.packed[-4:])))
        if inner := address.ipv4_mapped or address.sixtofour:
            return is_public(str(inner))
        if address in _SITE_LOCAL:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


__all__ = ["is_public"]
