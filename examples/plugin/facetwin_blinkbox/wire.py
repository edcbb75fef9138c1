"""What the blinkbox says and hears: one line of ASCII a packet, with a number and a checksum.

::

    to the box      7 GO 150 150*1F      number, verb, arguments, checksum of what is before the star
    from the box    7 OK 150 149*1B      the same number; or: 7 NO reason*..

=====  =====================  ================================================================
verb   arguments              answer
=====  =====================  ================================================================
ID     none                   model and firmware, ``BLINKBOX 2``
ON     two positions          takes them as targets, then switches the servos on
GO     two positions          new targets; refused while off
OFF    none                   switches the servos off
SEE    none                   two positions, two loads (%), two temperatures (C), mV, faults or -
=====  =====================  ================================================================

Positions are tenths of a degree of the servo, 0 to 1800.
"""

from __future__ import annotations

PORT = 7707  #: UDP


def checksum(text: str) -> int:
    """All bytes xored, as in NMEA 0183.

    >>> f"{checksum('7 GO 150 150'):02X}"
    '1F'
    """
    out = 0
    for byte in text.encode("ascii"):
        out ^= byte
    return out


def pack(number: int, *words: object) -> bytes:
    """One packet."""
    text = " ".join(map(str, (number, *words)))
    return f"{text}*{checksum(text):02X}".encode("ascii")


def unpack(data: bytes) -> tuple[int, list[str]] | None:
    """Number and words of a packet; None for anything that is not one.

    >>> unpack(pack(7, "OK", 150, 149))
    (7, ['OK', '150', '149'])
    >>> unpack(b"7 OK 150 148*1D") is None
    True
    """
    try:
        text, star, sum_ = data.decode("ascii").rpartition("*")
        number, *words = text.split(" ")
        if not star or int(sum_, 16) != checksum(text) or not words:
            return None
        return int(number), words
    except ValueError:  # not ASCII, not a number
        return None
