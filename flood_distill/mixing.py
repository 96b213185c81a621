"""Which source the i-th training example comes from: integer arithmetic that is exact and needs no state.

Two sources are mixed by Bresenham's rule: of the first i examples, floor(i * w0 / (w0 + w1)) come from source 0. Equal
weights give source 1, 0, 1, 0, ..., so every even batch is half and half (section 3.2: "sampled equally from both the
data sources"). More than two sources nest the rule: source 0 against the rest, then source 1 against the rest of it.
Every function takes Python integers or int64 tensors alike, and imports neither.
"""

from collections.abc import Sequence
from typing import Any

from flood_distill.errors import UserError

BY_SIZE = "size"  # every example equally often
EQUAL = "equal"  # every source equally often
MIXINGS = (BY_SIZE, EQUAL)


def weights(mixing: str, num_examples: Sequence[int]) -> tuple[int, ...]:
    """Returns the integer weight of each source.

    Args:
        mixing: ``size`` or ``equal``.
        num_examples: number of examples of each source, all at least 1.

    Raises:
        UserError: for another word.
    """
    if mixing not in MIXINGS:
        raise UserError(f"mixing={mixing!r}: not one of {', '.join(MIXINGS)}")
    return tuple(num_examples) if mixing == BY_SIZE else (1,) * len(num_examples)


def counts(num_drawn: Any, source_weights: Sequence[int]) -> list:
    """Returns how many of the first `num_drawn` examples come from each source.

    Args:
        num_drawn: int or int64 tensor of any shape, at least 0.
        source_weights: positive integers.

    Returns:
        One number (or tensor) a source; they sum to `num_drawn`, and each is within one of its exact share for two
        sources.
    """
    result = []
    rest, rest_weight = num_drawn, sum(source_weights)
    for weight in source_weights[:-1]:
        result.append(rest * weight // rest_weight)
        rest, rest_weight = rest - result[-1], rest_weight - weight
    return [*result, rest]


def source_of(index: Any, source_weights: Sequence[int]) -> Any:
    """Returns the number of the source of example `index` (int or int64 tensor, counted from 0)."""
    before, after = counts(index, source_weights), counts(index + 1, source_weights)
    return sum(source * (late - early) for source, (early, late) in enumerate(zip(before, after, strict=True)))
