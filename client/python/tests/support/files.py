"""Files that others read meanwhile."""

from __future__ import annotations

from pathlib import Path


def write(file: Path, text: str) -> None:
    """In one step, as whoever rotates files does: nobody reads half of one."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.replace(file)
