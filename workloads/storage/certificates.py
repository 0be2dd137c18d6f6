"""Certificate authorities of the platform, trusted in addition to the public ones."""

import atexit
import os
import ssl
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

CA_BUNDLE = "POTSTILL_CA_BUNDLE"
"""Names a PEM file: the CA of the store, of a model hub, or of a proxy that opens TLS connections."""
READ_BY_CLIENTS = ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Variables of boto3, httpx (huggingface_hub), requests.

Each names a file that replaces the public CAs, so the file has both.
"""

PREFIX = "potstill-ca-"
"""The prefix of the file with all CAs."""
WRONG_NAME = 62
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH; 64 is the same for IP addresses, 10 an expired certificate (x509_vfy.h)."""


class BadBundle(Exception):
    """The file of POTSTILL_CA_BUNDLE cannot be read or has no certificate; the message names it."""


def trust_ca_bundle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets READ_BY_CLIENTS to a file of the public CAs and POTSTILL_CA_BUNDLE's, for this process and its children.

    The public CAs are those of AWS_CA_BUNDLE or SSL_CERT_FILE if they are set, else certifi's. Does nothing without
    POTSTILL_CA_BUNDLE, or if this process or its parent has done it already. Raises BadBundle.
    """
    bundle = environment.get(CA_BUNDLE)
    stated = environment.get("AWS_CA_BUNDLE") or environment.get("SSL_CERT_FILE")
    if not bundle or (stated and Path(stated).name.startswith(PREFIX)):
        return
    import certifi

    try:
        own = Path(bundle).read_text()
        ssl.create_default_context(cadata=own)
        public = Path(stated or certifi.where()).read_text()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BadBundle(f"{CA_BUNDLE}: {bundle} is not a file of PEM certificates: {error}") from error
    with tempfile.NamedTemporaryFile("w", prefix=PREFIX, suffix=".pem", delete=False) as file:
        file.write(public + "\n" + own)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    environment.update(dict.fromkeys(READ_BY_CLIENTS, file.name))


def certificate_advice(error: BaseException) -> str | None:
    """Returns what to do if an exception of boto3, httpx or requests comes from a refused certificate; otherwise
    None.
    """
    from urllib3.util.ssl_match_hostname import CertificateError

    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, ssl.SSLCertVerificationError):
            return _advice(one.verify_code)
        if isinstance(one, CertificateError):  # urllib3 compares names itself if it can
            return _advice(WRONG_NAME)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        fields = getattr(one, "kwargs", {})
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting += fields.values() if isinstance(fields, dict) else []
    return None


def _advice(verify_code: int) -> str:
    match verify_code:
        case 10:
            return "The server's certificate has expired: renew it on the server"
        case 62 | 64:
            return "The server's certificate is for another name: check the endpoint, or the certificate's names"
    return (
        "The server's certificate comes from a CA that is not trusted here: name the CA in the chart's caBundle "
        f"(outside a cluster: {CA_BUNDLE}=<file of PEM certificates>)"
    )
