"""Certificates of validators, and TLS between them.

Every validator has one self-signed certificate (ECDSA P-256). Nobody vouches for it: the network
file holds its SHA-256 (of the DER form) beside the validator's address, and that alone says who it
is. Hence no authority, no host names, no expiry: another pin is what ends a certificate.

TLS 1.3 only (RFC 8446), and both sides show a certificate. The kernel (`kernel/src/link.rs`, over
rustls) speaks it and has the peer prove that it holds its certificate's key; `transport` compares
the pin.
"""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from quorate._kernel import TlsKeys
from quorate.base.errors import Invalid

__all__ = ["TlsIdentity", "create_certificate", "load_identity", "write_private"]

NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280, 4.1.2.5: the value that means "no well-defined expiration"."""


class TlsIdentity:
    """A certificate and its key, ready for connections in both directions."""

    __slots__ = ("fingerprint", "keys")

    def __init__(self, key_pem: bytes, certificate_pem: bytes) -> None:
        """Raises Invalid when the two are malformed or do not belong together."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            key = serialization.load_pem_private_key(key_pem, None)
        except (ValueError, TypeError) as error:
            raise Invalid(f"tls: found no PEM key and certificate: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Invalid(f"tls: found a {type(key).__name__}, expected an ECDSA P-256 key")
        if key.public_key() != certificate.public_key():
            raise Invalid("tls: found a key of another certificate, expected the certificate's own")
        self.fingerprint = certificate.fingerprint(hashes.SHA256())
        self.keys = TlsKeys(
            key.private_bytes(
                serialization.Encoding.DER,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            certificate.public_bytes(serialization.Encoding.DER),
        )


def create_certificate(name: str) -> tuple[bytes, bytes, bytes]:
    """Return (key, certificate, fingerprint) of a new identity, the first two as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return (
        key_pem,
        certificate.public_bytes(serialization.Encoding.PEM),
        hashlib.sha256(der).digest(),
    )


def load_identity(key: Path, certificate: Path) -> TlsIdentity:
    """Read both files. Raises Invalid that names the file."""
    try:
        key_pem, certificate_pem = key.read_bytes(), certificate.read_bytes()
    except OSError as error:
        raise Invalid(f"{error.filename}: cannot be read: {error.strerror}") from None
    try:
        return TlsIdentity(key_pem, certificate_pem)
    except Invalid as error:
        raise Invalid(f"{certificate}: {error}") from None


def write_private(path: Path, contents: bytes) -> None:
    """Write a new file that its owner alone can read; never through an existing one."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
