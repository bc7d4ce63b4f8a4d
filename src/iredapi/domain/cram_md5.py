"""Dovecot's ``{CRAM-MD5}`` hashes: the two intermediate MD5 states of HMAC-MD5.

MD5 is implemented here because no library gives access to its inner state. Such hashes are weak:
they are verified, never made.
"""

from __future__ import annotations

import hashlib
import math
import struct

_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_SINES = tuple(int(abs(math.sin(step + 1)) * 2**32) for step in range(64))
_SHIFTS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
_MASK = 0xFFFFFFFF
_BLOCK = 64


def context(secret: bytes) -> bytes:
    """Return the 32 bytes of ``{CRAM-MD5}``: the outer state, then the inner one."""
    if len(secret) > _BLOCK:
        secret = hashlib.md5(secret, usedforsecurity=False).digest()
    key = secret.ljust(_BLOCK, b"\0")
    outer = _state_after(bytes(byte ^ 0x5C for byte in key))
    inner = _state_after(bytes(byte ^ 0x36 for byte in key))
    return struct.pack("<8I", *outer, *inner)


def _state_after(block: bytes) -> tuple[int, ...]:
    """Return the state of MD5 after one block of 64 bytes (RFC 1321, section 3.4)."""
    words = struct.unpack("<16I", block)
    a, b, c, d = _START
    for step in range(64):
        turn = step // 16
        if turn == 0:
            mixed, index = (b & c) | (~b & d), step
        elif turn == 1:
            mixed, index = (d & b) | (~d & c), (5 * step + 1) % 16
        elif turn == 2:
            mixed, index = b ^ c ^ d, (3 * step + 5) % 16
        else:
            mixed, index = c ^ (b | (~d & _MASK)), (7 * step) % 16
        total = (a + mixed + _SINES[step] + words[index]) & _MASK
        shift = _SHIFTS[turn][step % 4]
        rotated = (total << shift) | (total >> (32 - shift))
        a, b, c, d = d, (b + rotated) & _MASK, b, c
    return tuple((old + new) & _MASK for old, new in zip(_START, (a, b, c, d), strict=True))
