"""The meaning of an exception from boto3: a key is absent, a condition is false, try again, or give up and say why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from boto3.exceptions import RetriesExceededError, S3TransferFailedError, S3UploadFailedError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from workloads.storage.certificates import certificate_advice

AnswerType = TypeVar("AnswerType", bound=Mapping[str, object])
Meaning = Literal["absent", "condition", "transient", "credentials", "final"]
"""credentials: the server refuses the keys. If they worked before, the next try may read new ones."""

AGAIN = frozenset(
    {
        "BadDigest",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "NoSuchUpload",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottlingException",
        "XAmzContentChecksumMismatch",
    }
)
REFUSED_KEYS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
ADVICE = {
    "NoSuchBucket": "There is no such bucket: check the store's URL and POTSTILL_S3_ENDPOINT",
    "AccessDenied": "The credentials do not allow it: grant s3:GetObject, PutObject, DeleteObject, ListBucket here",
    "InvalidAccessKeyId": "The server does not know these credentials: check AWS_ACCESS_KEY_ID and the endpoint",
    "SignatureDoesNotMatch": "The secret key is wrong: check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "The credentials have expired: renew them",
    "InvalidToken": "AWS_SESSION_TOKEN does not belong to these keys: renew all three",
    "NotImplemented": "The server lacks this request; Potstill needs conditional writes (If-Match, If-None-Match)",
    "RequestTimeTooSkewed": "This machine's clock is wrong",
}
BY_STATUS = {403: "AccessDenied", 501: "NotImplemented"}


class ForeignAnswer(boto.BotoCoreError):
    """The answer has status 200 and lacks fields that S3 always sends: it comes from a proxy or a starting server."""

    fmt = "the answer lacks {missing}: it does not come from an S3 server"


CUT = (
    ForeignAnswer,
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.ResponseStreamingError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    RetriesExceededError,
    ResponseParserError,
)


@dataclass(frozen=True)
class Fault:
    meaning: Meaning
    text: str
    """Returns the message of the server or the connection, and what to do about it."""


def require(answer: AnswerType, *fields: str) -> AnswerType:
    """Returns the answer. Raises ForeignAnswer if one of the fields is missing: it then means nothing."""
    missing = [field for field in fields if answer.get(field) is None]
    if missing:
        raise ForeignAnswer(missing=", ".join(missing))
    return answer


def read_fault(error: BaseException) -> Fault | None:
    """Returns None for an exception that does not come from the store."""
    if isinstance(error, S3UploadFailedError | S3TransferFailedError):
        cause = error.__cause__ or error.__context__
        return (read_fault(cause) if cause else None) or Fault("transient", str(error))
    if isinstance(error, boto.ClientError):
        return _of_answer(error)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return Fault(
            "final", f"{error}. Give credentials by the AWS chain: AWS_ACCESS_KEY_ID, a profile, or a pod's role"
        )
    if isinstance(error, boto.SSLError) and (advice := certificate_advice(error)):
        return Fault("final", f"{error}. {advice}")
    if isinstance(error, boto.ProxyConnectionError):
        return Fault(
            "transient", f"{error}. Is HTTPS_PROXY right, and does NO_PROXY name the store where it needs none?"
        )
    if isinstance(error, CUT):
        return Fault("transient", f"{error}. Is the server up, and POTSTILL_S3_ENDPOINT right?")
    if isinstance(error, boto.BotoCoreError):
        return Fault("final", str(error))
    return None


def _of_answer(error: boto.ClientError) -> Fault:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    if status == 404 and error.operation_name == "HeadBucket":
        code = "NoSuchBucket"
    advice = ADVICE.get(code) or ADVICE.get(BY_STATUS.get(status, ""), "")
    text = f"{error} (HTTP {status})" + (f". {advice}" if advice else "")
    if code == "NoSuchKey":
        return Fault("absent", text)
    if code == "PreconditionFailed" or status == 412:
        return Fault("condition", text)
    if code in REFUSED_KEYS:
        return Fault("credentials", text)
    if code in AGAIN or status in (408, 409, 429) or (status >= 500 and status != 501):
        return Fault("transient", text)
    return Fault("final", text)
