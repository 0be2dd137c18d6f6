"""A store in a bucket of an S3 server that supports If-None-Match and If-Match.

Every call is retried with growing pauses until its deadline. After a broken connection it is unknown whether a write
succeeded: a conditional write that finds its own content in the store counts as success. An interrupted upload leaves
invisible parts: give the bucket a lifecycle rule AbortIncompleteMultipartUpload.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import boto3
import botocore.session
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from workloads.storage.base import AlreadyExists, NotFound, ObjectInfo, StoreError, check_key, probe_conditions
from workloads.storage.s3.checksums import Sums, part_bytes, sums_of
from workloads.storage.s3.credentials import session_with
from workloads.storage.s3.errors import ForeignAnswer, read_fault, require
from workloads.storage.s3.timestamps import use_fast_timestamps

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef, PutObjectOutputTypeDef

T = TypeVar("T")

SLOWEST_BYTES_PER_SECOND = 1024 * 1024
"""A transfer's deadline grows with its size at this rate."""
PAGE_KEYS = 1000
"""Keys in one answer to a LIST: the most that S3 gives."""
UPLOADS = 5
"""How often a file is sent if the server accepts it but does not store it."""


def connect(
    endpoint: str | None, tries: int = 3, addressing: str | None = None, keys: Path | None = None
) -> "S3Client":
    """Returns a client; `endpoint` is a server other than AWS.

    `addressing`: path, virtual or auto; not given: path for an `endpoint`, else auto. `keys`: a folder of key files
    (`s3_credentials`); not given: the standard AWS chain. Region: the chain's, else us-east-1. boto3 itself tries each
    request `tries` times (each part of a multipart transfer separately); the store then retries until its deadline.
    Raises CredentialRetrievalError for keys that cannot be read.
    """
    own = session_with(keys) if keys else botocore.session.Session()
    session = boto3.session.Session(botocore_session=use_fast_timestamps(own))
    config = Config(
        retries={"mode": "standard", "total_max_attempts": tries},
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        max_pool_connections=16,
        s3={"addressing_style": _addressing_style(endpoint, addressing)},
    )
    region = session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)


def _addressing_style(endpoint: str | None, stated: str | None) -> Literal["auto", "path", "virtual"]:
    match stated or ("path" if endpoint else "auto"):
        case "auto" | "path" | "virtual" as style:
            return style
        case other:
            raise ValueError(f"POTSTILL_S3_ADDRESSING is {other!r}: use path, virtual or auto")


class S3Store:
    """Safe for any number of threads, processes and machines."""

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        prefix: str,
        deadline_seconds: float,
        pause: Callable[[float], None] = time.sleep,
        page_keys: int = PAGE_KEYS,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix + "/" if prefix else ""
        self._deadline_seconds = deadline_seconds
        self._pause = pause
        self._worked = False
        """Whether the server has answered a request with these credentials.

        If it refuses them later, they may be in rotation.
        """
        self._page_keys = page_keys

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str) -> bytes:
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        def read() -> tuple[bytes, str]:
            answer = require(self._client.get_object(Bucket=self._bucket, Key=self._prefix + key), "ETag")
            return answer["Body"].read(), answer["ETag"]

        return self._try("read", key, read)

    def head(self, key: str) -> ObjectInfo | None:
        found = self._head(key)
        if found is None:
            return None
        return ObjectInfo(key, found["ContentLength"], found["ETag"], found["LastModified"].timestamp())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        after = ""
        while True:
            start = self._prefix + after if after else ""

            def page(start: str = start) -> tuple[list[ObjectInfo], bool]:
                """Returns one page and whether the server has more.

                Raises ForeignAnswer if a field of S3 is missing.
                """
                answer = self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=self._prefix + prefix, StartAfter=start, MaxKeys=self._page_keys
                )
                require(answer, "Name", "IsTruncated", *(["Contents"] if answer.get("IsTruncated") else []))
                infos = [
                    ObjectInfo(
                        found["Key"].removeprefix(self._prefix),
                        found["Size"],
                        found["ETag"],
                        found["LastModified"].timestamp(),
                    )
                    for found in answer.get("Contents", [])
                ]
                if answer["IsTruncated"] and not infos:
                    raise ForeignAnswer(missing="the keys of a truncated page")
                return infos, answer["IsTruncated"]

            infos, truncated = self._try("list", prefix, page)
            yield from (info for info in infos if not info.key.endswith("/"))
            if not truncated:
                return
            after = infos[-1].key

    def put_new(self, key: str, data: bytes) -> str:
        return self._put_conditionally(
            key,
            data,
            lambda: self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=data, ChecksumAlgorithm="SHA256", IfNoneMatch="*"
            ),
        )

    def put_if(self, key: str, data: bytes, etag: str | None) -> str:
        if etag is None:
            return self.put_new(key, data)
        return self._put_conditionally(
            key,
            data,
            lambda: self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=data, ChecksumAlgorithm="SHA256", IfMatch=etag
            ),
        )

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        self._try(
            "write",
            key,
            lambda: require(
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + key, Body=data, ChecksumAlgorithm="SHA256"
                ),
                "ETag",
            ),
        )

    def upload(self, key: str, path: Path, sha256: str) -> None:
        check_key(key)
        size = path.stat().st_size
        sums = sums_of(path, part_bytes(size))
        if sums.sha256 != sha256:
            raise StoreError(f"{self.url}/{key}: {path} hashes to {sums.sha256}, not {sha256}: it changed since")
        config = TransferConfig(
            multipart_threshold=part_bytes(size), multipart_chunksize=part_bytes(size), max_concurrency=8
        )

        def send() -> None:
            try:
                self._client.upload_file(
                    str(path),
                    self._bucket,
                    self._prefix + key,
                    ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                    Config=config,
                )
            except (ClientError, BotoCoreError, Boto3Error):
                if not self._stands(key, sums):
                    raise
            except KeyError as error:  # s3transfer uses fields of an answer that it does not check
                raise ForeignAnswer(missing=str(error)) from error

        for _ in range(UPLOADS):
            self._try("upload", key, send, size)
            if self._stands(key, sums):
                return
        raise StoreError(f"{self.url}/{key}: what arrived is not what was sent from {path}, {UPLOADS} times")

    def download(self, key: str, path: Path) -> None:
        info = self.head(key)
        if info is None:
            raise NotFound(f"{self.url}/{key} does not exist")
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        config = TransferConfig(multipart_chunksize=part_bytes(info.size), max_concurrency=8)

        def receive() -> None:
            try:
                self._client.download_file(self._bucket, self._prefix + key, str(partial), Config=config)
            except KeyError as error:  # s3transfer uses fields of an answer that it does not check
                raise ForeignAnswer(missing=str(error)) from error

        try:
            self._try("download", key, receive, info.size)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        check_key(key)

        def remove() -> None:
            answer = self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
            if answer["ResponseMetadata"]["HTTPStatusCode"] != 204 and self._head(key) is not None:
                raise ForeignAnswer(missing="the status 204")

        self._try("delete", key, remove)

    def probe(self) -> None:
        probe_conditions(self)

    def _put_conditionally(self, key: str, data: bytes, write: Callable[[], "PutObjectOutputTypeDef"]) -> str:
        check_key(key)
        try:
            return self._try("write", key, lambda: require(write(), "ETag")["ETag"])
        except (AlreadyExists, NotFound):
            try:
                found, etag = self.get_with_etag(key)
            except NotFound:
                raise AlreadyExists(f"{self.url}/{key} does not exist any more") from None
            if found != data:
                raise AlreadyExists(f"{self.url}/{key} exists already, with other content") from None
            return etag

    def _head(self, key: str) -> "HeadObjectOutputTypeDef | None":
        def ask() -> "HeadObjectOutputTypeDef":
            found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key, ChecksumMode="ENABLED")
            return require(found, "ContentLength", "ETag", "LastModified")

        def ask_with_reasons() -> "HeadObjectOutputTypeDef | None":
            try:
                return ask()
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status not in (403, 404):
                    raise
            if status == 403:  # The answer to a LIST has a body that shows whether the keys are the cause.
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + key, MaxKeys=1)
                return ask()
            # A HEAD's 404 has no body to show whether the key or the bucket is absent.
            self._client.head_bucket(Bucket=self._bucket)
            return None

        return self._try("look at", key, ask_with_reasons)

    def _stands(self, key: str, sums: Sums) -> bool:
        """Returns whether the server has the content of `sums`: by SHA-256 if it stores one, else by size."""
        found = self._head(key)
        if found is None or found["ContentLength"] != sums.size:
            return False
        return found.get("ChecksumSHA256") in (None, sums.whole, sums.composite)

    def _try(self, doing: str, key: str, call: Callable[[], T], size: int = 0) -> T:
        """Returns `call`'s answer. Retries transient errors until the deadline.

        Raises NotFound, AlreadyExists (a condition that did not hold), StoreError.
        """
        end = time.monotonic() + self._deadline_seconds + size / SLOWEST_BYTES_PER_SECOND
        pause_seconds = 0.1
        while True:
            try:
                answer = call()
                self._worked = True
                return answer
            except (ClientError, BotoCoreError, Boto3Error) as error:
                fault = read_fault(error)
                where = f"s3://{self._bucket}/{self._prefix}{key}: cannot {doing} it"
                refused = fault is not None and fault.meaning == "credentials" and not self._worked
                if fault is None or fault.meaning == "final" or refused:
                    raise StoreError(f"{where}: {fault.text if fault else error}") from error
                if fault.meaning == "absent":
                    raise NotFound(f"{self.url}/{key} does not exist") from error
                if fault.meaning == "condition":
                    raise AlreadyExists(f"{where}: {fault.text}") from error
                wait_seconds = pause_seconds * random.uniform(0.5, 1.0)  # noqa: S311
                if time.monotonic() + wait_seconds > end:
                    raise StoreError(f"{where}, tried for {self._deadline_seconds:g} s: {fault.text}") from error
            self._pause(wait_seconds)
            pause_seconds = min(pause_seconds * 2, 10.0)
