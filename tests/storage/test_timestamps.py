"""Times in answers of S3 are read as botocore reads them, without dateutil."""

from datetime import UTC, datetime, timedelta

import pytest
from botocore.utils import parse_timestamp

from workloads.storage.s3.timestamps import read_timestamp

FORMATS = [
    "2026-11-29T14:00:59.000Z",
    "2026-11-29T14:00:59.123456789Z",
    "2026-11-29T14:00:59Z",
    "2026-11-29T14:00:59+02:00",
    "Sun, 29 Nov 2026 14:00:59 GMT",
    "20261129T140059Z",
    "1796133659",
    1796133659,
    1796133659.5,
]


@pytest.mark.parametrize("text", FORMATS)
def test_each_format_is_read_as_botocore_reads_it(text: str | float) -> None:
    found, other = read_timestamp(text), parse_timestamp(str(text))
    assert abs(found - other) < timedelta(milliseconds=1)
    assert found.tzinfo is not None


def test_a_header_is_in_utc() -> None:
    assert read_timestamp("Sun, 29 Nov 2026 14:00:59 GMT") == datetime(2026, 11, 29, 14, 0, 59, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "<html>"])
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="timestamp"):
        read_timestamp(text)
