"""The other end of a link by another implementation: pyOpenSSL, over memory buffers.

It is set up as nodes were that spoke TLS by it, so it shows that both understand each other.
"""

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

__all__ = ["OpenSslEnd"]


class OpenSslEnd:
    """One end of a connection: bytes of the socket go in and out, plain bytes likewise."""

    def __init__(self, key_pem: bytes, certificate_pem: bytes, *, dials: bool) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.use_certificate(x509.load_pem_x509_certificate(certificate_pem))
        key = serialization.load_pem_private_key(key_pem, None)
        context.use_privatekey(key)  # type: ignore[arg-type]
        context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_arguments: True
        )
        self.tls = SSL.Connection(context)
        if dials:
            self.tls.set_connect_state()
        else:
            self.tls.set_accept_state()
        self.established = False
        self.plain = b""
        """What was decrypted so far."""

    def receive(self, data: bytes) -> None:
        """Take what the socket brought. Raises SSL.Error."""
        if data:
            self.tls.bio_write(data)
        try:
            if not self.established:
                self.tls.do_handshake()
                self.established = True
            while True:
                self.plain += self.tls.recv(16 << 10)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            return

    def send(self, plain: bytes) -> None:
        self.tls.sendall(plain)

    def take_records(self) -> bytes:
        """Return what the socket shall take."""
        records = b""
        try:
            while True:
                records += self.tls.bio_read(65536)
        except SSL.WantReadError:
            return records

    def get_fingerprint(self) -> bytes:
        """Return the SHA-256 of the peer's certificate."""
        certificate = self.tls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
