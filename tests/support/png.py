"""PNG files: their signature, and the text that says what an image was made from (PNG specification, 5.2 and 11.3.4.3)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"Source\0"


def source_of(png: bytes) -> str:
    """Return the text that ``with_source`` added, or ""; raises ValueError for bytes that are not a whole PNG file."""
    found = [content for kind, content in _chunks(png) if kind == b"tEXt" and content.startswith(_KEYWORD)]
    return found[-1].removeprefix(_KEYWORD).decode("latin-1") if found else ""


def with_source(png: bytes, source: str) -> bytes:
    """Return the image with a text about its source, and without other text and times."""
    kept = [(kind, content) for kind, content in _chunks(png) if kind not in {b"tEXt", b"zTXt", b"iTXt", b"tIME"}]
    chunks = [*kept[:-1], (b"tEXt", _KEYWORD + source.encode("latin-1")), kept[-1]]
    return SIGNATURE + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and content of each chunk; the last one is IEND, with nothing after it."""
    if not png.startswith(SIGNATURE):
        raise ValueError("not a PNG file")
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(png):
            raise ValueError("the PNG file is truncated")
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        content = png[position + 8 : position + 8 + length]
        position += 12 + length
        if png[position - 4 : position] != struct.pack(">I", zlib.crc32(kind + content)):
            raise ValueError(f"the checksum of {kind!r} is wrong")
        yield kind, content
    if position != len(png):
        raise ValueError("bytes follow the end of the PNG file")
