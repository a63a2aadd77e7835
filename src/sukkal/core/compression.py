"""Compression of large message bodies in the store: Zstandard.

A compressed body is COMPRESSED, then one frame that says how long its content is. What is to be sealed too is
compressed first, for sealed bytes have nothing to save. No other form of a body starts with that byte (see
wire/bodies.py), so each is read for what it is, whatever the setting was when it came.
"""

import sys

import zstandard

from sukkal.errors import Unavailable

COMPRESSED = 2
LARGEST = 16 * 1024 * 1024  # bytes of a body that is compressed; longer ones would hold up others too long
WORTH = 0.9  # of its length a body may keep to be stored compressed
LEVEL = 1  # a third faster than the default 3 on JSON, for a few percent more length


class Compression:
    """Makes bodies of more than `above` bytes smaller where that saves space; 0: none."""

    def __init__(self, above: int) -> None:
        self.above = above or sys.maxsize
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    def compress(self, body: bytes) -> bytes:
        """A body as it is stored, compressed or as it is."""
        if not self.above < len(body) <= LARGEST:
            return body
        compressed = bytes([COMPRESSED]) + self._compressor.compress(body)
        return compressed if len(compressed) <= len(body) * WORTH else body

    def expand(self, body: bytes) -> bytes:
        """A body as it was posted, whether compressed or not; Unavailable for one that is damaged.

        What would become longer than anything that is ever compressed is not touched.
        """
        if body[0] != COMPRESSED:
            return body
        frame = memoryview(body)[1:]
        try:
            if 0 <= zstandard.frame_content_size(frame) <= LARGEST:
                return self._decompressor.decompress(frame)
        except zstandard.ZstdError as exc:
            raise _damaged() from exc
        raise _damaged()


def _damaged() -> Unavailable:
    return Unavailable("The message is damaged in the store: its compressed body cannot be read.")
