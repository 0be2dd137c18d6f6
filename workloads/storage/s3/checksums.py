"""The SHA-256 checksums that S3 stores for an object: of all its bytes, or, after a multipart upload, of the parts'
sums.

Source: Amazon S3 User Guide, "Checking object integrity": a composite checksum is the Base64 of the digest of the
parts' concatenated digests, a hyphen, and the number of parts.
"""

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
SMALLEST_PART_BYTES = 16 * MIB
PARTS = 5_000
"""The largest number of parts; S3 allows 10,000."""


@dataclass(frozen=True)
class Sums:
    size: int
    sha256: str
    whole: str
    composite: str


def part_bytes(size: int) -> int:
    """Returns the part size for a file of `size` bytes, in whole MiB; a smaller file is sent in one piece."""
    return max(SMALLEST_PART_BYTES, -(-size // (PARTS * MIB)) * MIB)


def sums_of(path: Path, part_size: int) -> Sums:
    """Reads the file once, in blocks of 1 MiB (`part_size` is a multiple of it)."""
    whole, of_parts, part = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    size = parts = 0
    with path.open("rb") as file:
        while block := file.read(MIB):
            if size and size % part_size == 0:
                of_parts.update(part.digest())
                parts, part = parts + 1, hashlib.sha256()
            whole.update(block)
            part.update(block)
            size += len(block)
    of_parts.update(part.digest())
    composite = f"{b64encode(of_parts.digest()).decode()}-{parts + 1}"
    return Sums(size, whole.hexdigest(), b64encode(whole.digest()).decode(), composite)
