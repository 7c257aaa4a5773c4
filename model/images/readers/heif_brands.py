"""Tell HEIC, AVIF and CR3 files apart by the brands in their first box."""

_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"}
_AVIF = {b"avif", b"avis"}


def brand_kind(head: bytes) -> str | None:
    """The kind of a file that begins with `head`: "heif", "avif", "cr3" or None."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] == b"crx ":
        return "cr3"
    # Some phones name a brand that both formats share first, and the specific one among the compatible brands.
    if any(brand in _AVIF for brand in brands):
        return "avif"
    return "heif" if any(brand in _HEIF for brand in brands) else None
