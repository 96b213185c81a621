"""Strategies: the same run on one replica and on two, and who is who among workers."""

import json

import numpy as np
import pytest
import strategy_run

from flood_distill.errors import UserError
from flood_distill.training import strategies


def test_two_replicas_are_one():
    one, two = (strategy_run.run(strategies.make_strategy(name)) for name in ("cpu", "mirrored"))
    strategy_run.assert_same_run(two, one)


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_validation_scores_every_pixel_once(num_replicas):
    labels = np.stack([example["label"] for example in strategy_run.records(strategy_run.NUM_VALIDATION).examples])
    s1 = np.stack([example["s1"] for example in strategy_run.records(strategy_run.NUM_VALIDATION).examples])
    scored = int(((labels >= 0) & np.isfinite(s1).all(-1)).sum())
    strategy = strategies.make_strategy(["cpu", "mirrored"][num_replicas - 1])
    replica_batches = [
        part
        for batch in strategy_run.validation_batches(strategy, batch_size=3)  # 3 is no multiple of two replicas
        for part in strategy.experimental_local_results(batch["label"])
    ]
    assert sum(int((part.numpy() >= 0).sum()) for part in replica_batches) == scored
    assert {part.shape[0] for part in replica_batches} == {3 if num_replicas == 1 else 2}


def test_flags_write_the_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    strategies.set_workers([], 0)
    with pytest.raises(UserError, match="give --workers and --worker_index, or set TF_CONFIG"):
        strategies.make_strategy("multi_worker")
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(UserError, match="TF_CONFIG is not JSON"):
        strategies.make_strategy()
    strategies.set_workers(["a:1", "b:2"], 1)
    assert json.loads(strategies.os.environ["TF_CONFIG"]) == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }


@pytest.mark.parametrize(
    ("workers", "index", "message"),
    [
        (["a"], 0, "'a' is not HOST:PORT"),
        ([":1"], 0, "':1' is not HOST:PORT"),
        (["a:1", "a:1"], 0, "names one twice"),
        (["a:1", "b:1"], 2, "give 0 to 1"),
    ],
)
def test_clusters_that_cannot_be(workers, index, message):
    with pytest.raises(UserError, match=message):
        strategies.set_workers(workers, index)


def test_a_process_on_its_own_is_chief_and_writes_to_model_dir(tmp_path):
    strategy = strategies.make_strategy("cpu")
    assert strategies.is_chief(strategy)
    with strategies.own_folder(strategy, str(tmp_path)) as folder:
        assert folder == str(tmp_path)
