"""File formats the kit can tell by their first bytes, so that a client's word for the type is never trusted."""

from __future__ import annotations

from dataclasses import dataclass

# Enough for every signature below.
SNIFFED_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Format:
    """`signatures` are alternatives; each is bytes that must stand at an offset."""

    content_type: str
    extension: str
    signatures: tuple[tuple[tuple[int, bytes], ...], ...]

    def matches(self, first_bytes: bytes) -> bool:
        return any(
            all(first_bytes[offset : offset + len(mark)] == mark for offset, mark in signature)
            for signature in self.signatures
        )


def _iso_media(*brands: bytes) -> tuple[tuple[tuple[int, bytes], ...], ...]:
    """ISO 14496-12: a `ftyp` box comes first and names the major brand."""
    return tuple(((4, b"ftyp" + brand),) for brand in brands)


FORMATS = {
    known.content_type: known
    for known in (
        Format(content_type="image/jpeg", extension="jpg", signatures=(((0, b"\xff\xd8\xff"),),)),
        Format(content_type="image/png", extension="png", signatures=(((0, b"\x89PNG\r\n\x1a\n"),),)),
        Format(content_type="image/gif", extension="gif", signatures=(((0, b"GIF87a"),), ((0, b"GIF89a"),))),
        Format(content_type="image/webp", extension="webp", signatures=(((0, b"RIFF"), (8, b"WEBP")),)),
        Format(content_type="image/avif", extension="avif", signatures=_iso_media(b"avif", b"avis")),
        Format(content_type="image/heic", extension="heic", signatures=_iso_media(b"heic", b"heix", b"mif1")),
        Format(content_type="application/pdf", extension="pdf", signatures=(((0, b"%PDF-"),),)),
        Format(content_type="video/mp4", extension="mp4", signatures=_iso_media(b"isom", b"iso2", b"mp41", b"mp42")),
    )
}

# What a browser may show on a page without being able to run anything in it: no SVG, no HTML.
SHOWN_INLINE = frozenset(
    {"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/heic", "video/mp4"}
)


def sniff(first_bytes: bytes) -> str | None:
    """The content type of a file that begins so, or None."""
    return next((known.content_type for known in FORMATS.values() if known.matches(first_bytes)), None)
