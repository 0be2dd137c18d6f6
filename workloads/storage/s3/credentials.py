"""Keys of the store in files of a mounted Secret. A rotated Secret is used at once, without a restart."""

from pathlib import Path
from typing import NamedTuple

from botocore.credentials import CredentialProvider, Credentials, ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.session import Session

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
PROVIDER = "potstill-mounted-secret"
READS = 20
"""The kubelet replaces the files by one rename; a read at the same moment is repeated."""


class Keys(NamedTuple):
    access_key: str
    secret_key: str
    session_token: str | None


def read_keys(folder: Path) -> Keys:
    """Returns the keys in the files of `folder`, which have the variables' names; the session token may be absent.

    Both keys are read from one version of the Secret: the kubelet keeps each in a separate folder, to which the link
    `..data` points (https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets-as-files-from-a-pod).
    Raises CredentialRetrievalError.
    """
    for remaining in reversed(range(READS)):
        version = (folder / "..data").resolve() if (folder / "..data").exists() else folder
        try:
            found = {name: (version / name).read_text().strip() for name in (ACCESS_KEY, SECRET_KEY)}
            token = version / SESSION_TOKEN
            session = (token.read_text().strip() if token.exists() else "") or None
        except OSError as error:
            if remaining:
                continue
            raise CredentialRetrievalError(provider=PROVIDER, error_msg=f"cannot read the Secret: {error}") from error
        empty = [name for name, value in found.items() if not value]
        if empty:
            raise CredentialRetrievalError(provider=PROVIDER, error_msg=f"{folder / empty[0]} is empty")
        return Keys(found[ACCESS_KEY], found[SECRET_KEY], session)
    raise AssertionError("unreachable")


class MountedCredentials(Credentials):
    """Reads the files again for each request that is signed."""

    def __init__(self, folder: Path) -> None:
        keys = read_keys(folder)
        super().__init__(*keys, method=PROVIDER)
        self._folder = folder

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return ReadOnlyCredentials(*read_keys(self._folder))


class MountedProvider(CredentialProvider):
    METHOD = PROVIDER
    CANONICAL_NAME = PROVIDER

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def load(self) -> Credentials:
        return MountedCredentials(self._folder)


def session_with(folder: Path) -> Session:
    """Returns a session whose credentials are the files in `folder`, before all others of the AWS chain."""
    session = Session()
    session.get_component("credential_provider").insert_before("env", MountedProvider(folder))
    return session
