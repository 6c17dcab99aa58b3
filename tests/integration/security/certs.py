"""An authority of the test's own, and what it signs, made at run time."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

HOST = "localhost"


@dataclass
class Authority:
    """Signs certificates for ``HOST``, numbered from 1."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    issued: int = 0

    def __post_init__(self) -> None:
        """Sign its own certificate."""
        self.certificate = self._sign(self.key, 1_000_000, is_authority=True)

    @property
    def pem(self) -> str:
        """What clients trust."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, *, ends_in: timedelta = timedelta(days=1)) -> tuple[bytes, bytes]:
        """Return a certificate and its key, as PEM."""
        self.issued += 1
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, self.issued, ends_in=ends_in)
        return certificate.public_bytes(Encoding.PEM), key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )

    def _sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        number: int,
        *,
        is_authority: bool = False,
        ends_in: timedelta = timedelta(days=1),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(authority if is_authority else name)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(number)
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + ends_in)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if not is_authority:
            names = x509.SubjectAlternativeName([x509.DNSName(HOST)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


@dataclass(frozen=True)
class Files:
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path

    @classmethod
    def within(cls, folder: Path, pair: tuple[bytes, bytes]) -> "Files":
        """Return files in a folder that hold a pair."""
        files = cls(folder / "tls.crt", folder / "tls.key")
        files.write(pair)
        return files

    def write(self, pair: tuple[bytes, bytes]) -> None:
        """Write both, one after the other, into the files that are there."""
        self.certificate.write_bytes(pair[0])
        self.key.write_bytes(pair[1])
