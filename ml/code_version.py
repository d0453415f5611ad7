"""Which code made a result: the package's version and a hash of the sources of ml."""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path


@lru_cache(maxsize=1)
def code_version() -> str:
    """Such as "0.1.0+ml.1a2b3c4d5e6f"; the same for the same source files anywhere."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return f"{version('bilayer')}+ml.{digest.hexdigest()[:12]}"
