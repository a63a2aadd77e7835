"""A certificate authority of the tests, and what it certifies."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Root, intermediate and what the latter signs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._key = ec.generate_private_key(ec.SECP256R1())
        root = self._certificate("root", self._root_key, "root", self._root_key, ca=True)
        self._chain = self._certificate("intermediate", self._key, "root", self._root_key, ca=True)
        self.file = directory / "root.pem"
        self.file.write_bytes(_pem(root))

    def server_context(self, name: str, *, expired: bool = False) -> ssl.SSLContext:
        """What a server presents as `name`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server_file(name, expired=expired))
        return context

    def server_file(self, name: str, *, expired: bool = False) -> Path:
        """The same as a file in PEM, with its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        age = 30 * DAY if expired else timedelta()
        certificate = self._certificate(name, key, "intermediate", self._key, age=age)
        file = self._directory / f"{name}-{expired}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(_pem(certificate) + _pem(self._chain) + secret)
        return file

    @staticmethod
    def _certificate(
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        age: timedelta = timedelta(),
    ) -> x509.Certificate:
        start = datetime.now(UTC) - DAY - age
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + 10 * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
            )
        )
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
