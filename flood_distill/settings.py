"""What a training is configured by, and a digest that tells whether two are configured alike."""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from flood_distill import cli

_INCLUDE = re.compile(r"^include\s+['\"](.+)['\"]")


@dataclasses.dataclass(frozen=True)
class Training:
    """A configuration.

    Attributes:
        gin_files: names or paths, later ones override.
        gin_params: bindings that override the files.
        in_grid: trained once for every point of the configuration's ``sweep.grid``.
    """

    gin_files: Sequence[str]
    gin_params: Sequence[str]
    in_grid: bool = False


def digest(gin_files: Sequence[str], gin_params: Sequence[str]) -> str:
    """Returns a digest of files, with what they include, and of bindings; comments play no part.

    Raises:
        UserError: for a file that is not there.
    """
    lines = [line for name in gin_files for line in _lines(name)]
    return sha256("\n".join([*lines, *gin_params]).encode())


def sha256(content: bytes) -> str:
    """Returns the digest in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _lines(name: str) -> list[str]:
    lines = []
    for line in Path(cli.find_gin_file(name)).read_text().splitlines():
        bare = line.partition("#")[0].strip()
        if included := _INCLUDE.match(bare):
            lines += _lines(included.group(1))
        elif bare:
            lines.append(bare)
    return lines
