"""`s3://`: a store in a bucket. boto3 is imported when one is opened."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from workloads.storage.base import DEADLINE_SECONDS, Store, StoreError, StoreScheme

EXAMPLE = "s3://bucket/prefix"


def open_bucket(url: str, environment: Mapping[str, str], _make: bool) -> Store:
    """A bucket is never created. Raises ValueError for another URL, StoreError for CAs or keys that cannot be read."""
    from botocore.exceptions import CredentialRetrievalError

    from workloads.storage.certificates import BadBundle, trust_ca_bundle
    from workloads.storage.s3.store import S3Store, connect

    parts = urlsplit(url)
    if not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not a store: write {EXAMPLE}")
    deadline_seconds = float(environment.get("POTSTILL_STORE_DEADLINE_SECONDS", DEADLINE_SECONDS))
    keys = environment.get("POTSTILL_S3_KEYS")
    try:
        trust_ca_bundle()
        client = connect(
            environment.get("POTSTILL_S3_ENDPOINT") or None,
            addressing=environment.get("POTSTILL_S3_ADDRESSING") or None,
            keys=Path(keys) if keys else None,
        )
    except (BadBundle, CredentialRetrievalError) as error:
        raise StoreError(f"{url}: {error}") from error
    return S3Store(client, parts.netloc, parts.path.strip("/"), deadline_seconds)


SCHEME = StoreScheme(name="s3", example=EXAMPLE, open=open_bucket)
