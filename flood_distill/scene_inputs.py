"""Which scenes a command names: files, pairs of single-band files, patterns."""

import dataclasses
import glob
import re
from collections.abc import Sequence
from pathlib import Path

from flood_distill import contract
from flood_distill.errors import UserError

PAIR_SEPARATOR = ","
# A polarisation as a word of its own: in "S1A_VV.tif" and "Sigma0_VH_db", not in "VVV".
_POLARISATION = re.compile(rf"(?<![A-Z0-9])({'|'.join(band.name for band in contract.S1_BANDS)})(?![A-Z0-9])", re.I)


@dataclasses.dataclass(frozen=True)
class SceneInput:
    """One scene.

    Attributes:
        paths: one file with both polarisations, or the file of each.
        stem: what its outputs are named after.
    """

    paths: tuple[str, ...]
    stem: str

    @property
    def name(self) -> str:
        """The scene as the command line names it."""
        return PAIR_SEPARATOR.join(self.paths)


def polarisation(text: str | None) -> str | None:
    """Returns ``VV`` or ``VH`` if a band's description or a file's name has exactly one of them, else None."""
    found = {match.upper() for match in _POLARISATION.findall(text or "")}
    return found.pop() if len(found) == 1 else None


def expand(inputs: Sequence[str]) -> list[SceneInput]:
    """Returns the scenes that ``--input`` names, each once, in order.

    Args:
        inputs: each a file, a pattern such as ``scenes/*.tif``, or two of either separated by a comma: the files of VV
            and VH. Files of two patterns go together in the order of their names.

    Raises:
        UserError: for a pattern without a file, two patterns with different numbers of files, or two scenes whose
            outputs would have one name.
    """
    scenes = list(dict.fromkeys(scene for text in inputs for scene in _expand_one(text)))
    stems = [scene.stem for scene in scenes]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UserError(f"--input: several inputs are named {', '.join(twice)}; predict them into different folders")
    return scenes


def _expand_one(text: str) -> list[SceneInput]:
    parts = [text] if Path(text).exists() else text.split(PAIR_SEPARATOR)
    found = [_matches(part.strip()) for part in parts]
    if len(found) > len(contract.S1_BANDS) or len({len(paths) for paths in found}) > 1:
        counts = " and ".join(str(len(paths)) for paths in found)
        raise UserError(f"--input={text}: {counts} files; give one file a scene, or the files of VV and of VH")
    return [SceneInput(paths, _stem(paths)) for paths in zip(*found, strict=True)]


def _matches(pattern: str) -> list[str]:
    if not glob.has_magic(pattern) or Path(pattern).exists():
        return [pattern]
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise UserError(f"--input={pattern}: no file has such a name")
    return found


def _stem(paths: tuple[str, ...]) -> str:
    """Returns the first file's name without its suffix and, of a pair, without its polarisation."""
    stem = Path(paths[0]).stem
    shortened = re.sub(rf"[-_. ]?{_POLARISATION.pattern}", "", stem, flags=re.I).strip("-_. ")
    return shortened if len(paths) > 1 and shortened else stem
