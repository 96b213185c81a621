"""Colours of plots with a curve a row."""

from collections.abc import Iterable

from matplotlib import colormaps
from matplotlib.axes import Axes

_MOST_DISTINCT = 10  # colours of tab10; tab20 has their light twins too


def set_cycle(axes: Iterable[Axes], number: int) -> None:
    """Gives `number` curves on each of the axes colours of their own, as far as there are 20."""
    for axis in axes:
        axis.set_prop_cycle(color=colormaps["tab10" if number <= _MOST_DISTINCT else "tab20"].colors)
