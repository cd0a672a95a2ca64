"""Certificates for tests."""

import subprocess
from pathlib import Path


def self_signed(folder: Path, name: str = "IP:127.0.0.1") -> tuple[str, str]:
    """The files of a key, and of a certificate that nobody has signed but itself."""
    key, certificate = str(folder / "key"), str(folder / "certificate")
    made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a test"]
    names = ["-addext", f"subjectAltName={name}", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", "req", *made, *names], check=True, capture_output=True)
    return key, certificate
