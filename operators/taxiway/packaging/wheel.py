"""Builds a wheel from Python files alone: no build tool, no network, and the same files give the same bytes.

What is published as a library is pure Python; anything that needs a compiler is built by its own tools.

Source: the binary distribution format, https://packaging.python.org/en/latest/specifications/binary-distribution-format
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

# A wheel is a zip, and a zip knows no time before this one.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: taxiway\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a wheel says of itself.

    Attributes:
        name: Name of the distribution, in canonical form.
        version: Its version, in canonical form.
        summary: One line.
        requires_python: Such as `>=3.11`, or an empty text.
        requires: What it needs, each a requirement.
    """

    name: str
    version: str
    summary: str = ""
    requires_python: str = ""
    requires: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        """Name of the wheel's file."""
        return f"{self._stem}-py3-none-any.whl"

    @property
    def info(self) -> str:
        """Name of the folder in the wheel that describes it."""
        return f"{self._stem}.dist-info"

    @property
    def _stem(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}"

    def text(self) -> str:
        """Return the `METADATA` file."""
        lines = ["Metadata-Version: 2.1", f"Name: {self.name}", f"Version: {self.version}"]
        lines += [f"Summary: {' '.join(self.summary.split())}"] if self.summary else []
        lines += [f"Requires-Python: {self.requires_python}"] if self.requires_python else []
        return "\n".join([*lines, *(f"Requires-Dist: {each}" for each in self.requires)]) + "\n"


def build(metadata: Metadata, files: Mapping[str, bytes]) -> bytes:
    """Return a wheel.

    Args:
        metadata: What it says of itself.
        files: Content by its path below `site-packages`.
    """
    described = {
        f"{metadata.info}/METADATA": metadata.text().encode(),
        f"{metadata.info}/WHEEL": _WHEEL.encode(),
    }
    content = dict(sorted(files.items())) | described
    record = f"{metadata.info}/RECORD"
    lines = [f"{name},sha256={_hash(data)},{len(data)}" for name, data in content.items()]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {**content, record: "\n".join([*lines, f"{record},,", ""]).encode()}.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def filename(name: str, version: str) -> str:
    """Return the file name of the wheel of a distribution that was built here."""
    return Metadata(name=canonicalize_name(name), version=version).filename


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
