"""Compares a training step that computes blocks again with the plain one."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import strategy_run

from flood_distill import contract

_SIZE_PX = 33


def assert_same_step(model: Callable[[bool], keras.Model], strategy: str) -> None:
    """Both steps move the weights and the moving averages alike, from the same weights on the same batch.

    Args:
        model: whether batch norms are synchronised -> a network of two channels, always the same.
        strategy: its name.
    """
    images = np.random.default_rng(0).random((4, _SIZE_PX, _SIZE_PX, 2)).astype(np.float32)
    batch = {contract.IMAGE: images, contract.LABEL: (images[..., 0] > 0.5).astype(np.int32)}
    plain, start, metrics = strategy_run.steps_on(batch, strategy, model=model)
    again, _, metrics_again = strategy_run.steps_on(batch, strategy, model=model, recompute=True)
    moved, moved_again = (strategy_run.flat(one.model.trainable_variables) - start for one in (plain, again))
    averages, averages_again = (strategy_run.flat(one.model.non_trainable_variables) for one in (plain, again))
    assert metrics_again["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert np.linalg.norm(moved) > 0
    assert moved @ moved_again > 0.9999 * np.linalg.norm(moved) * np.linalg.norm(moved_again)
    np.testing.assert_allclose(averages_again, averages, rtol=1e-4, atol=1e-5)
