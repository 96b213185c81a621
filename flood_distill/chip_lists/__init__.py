"""Lists of chip ids, one a line, that `train.chip_list` restricts training to.

ombria_20, ombria_40, ombria_80 and ombria_160 are the first 20 to 160 of one permutation of OMBRIA's 564 training
tuples (numpy.random.default_rng(0) on their sorted numbers), so each holds the ones before it.
"""

from pathlib import Path

from flood_distill.errors import UserError

_INSTALLED = Path(__file__).parent


def read(name: str) -> tuple[str, ...]:
    """Returns the chip ids of a list, in its order.

    Args:
        name: such as ``ombria_40``, or the path of a text file with one chip id a line.

    Raises:
        UserError: if there is no such list, or it is empty or names a chip twice; lists the installed ones.
    """
    for path in (_INSTALLED / f"{name}.txt", Path(name)):
        if path.is_file():
            chip_ids = tuple(path.read_text().split())
            break
    else:
        names = ", ".join(sorted(path.stem for path in _INSTALLED.glob("*.txt")))
        raise UserError(f"train.chip_list={name!r}: no such file, and not one of {names}")
    if not chip_ids or len(set(chip_ids)) < len(chip_ids):
        raise UserError(f"{path}: is empty or names a chip twice; give one chip id a line")
    return chip_ids
