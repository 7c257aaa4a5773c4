"""Files of boxes, HEIC, AVIF, JPEG 2000 and CR3 among them: what they are, by their first one."""

_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
_AVIF = {b"avif", b"avis"}


def brand_kind(head: bytes) -> str | None:
    """ "heif", "avif", "cr3", or None, of a file that begins with `head`."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] == b"crx ":
        return "cr3"
    # A brand of both kinds is named first by some phones, the particular one among those it is compatible with.
    if any(brand in _AVIF for brand in brands):
        return "avif"
    return "heif" if any(brand in _HEIF for brand in brands) else None
