"""Files that are there whole, or as they were before."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Put a file with this content in place of what is there, flushed to the disk first. Raises OSError."""
    written = path.with_name(f"{path.name}.new")
    with written.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
