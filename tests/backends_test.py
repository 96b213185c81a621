"""Network, losses and metrics give on JAX and PyTorch what they give on TensorFlow."""

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import backend_outputs
import numpy as np
import pytest
import reference_graph

from flood_distill import contract
from flood_distill.models import layers

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("jax", "torch")
SIZE = (50, 65)
# JAX compiles in two thirds of the time without optimisations.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


@pytest.fixture(scope="module")
def inputs():
    """Random images, labels with gaps, a teacher, and weights that let the signal through."""
    rng = np.random.default_rng(0)
    image = rng.random((3, *SIZE, 2), dtype=np.float32)
    coarse = rng.integers(contract.IGNORE_LABEL, 2, (3, 5, 13))
    labels = coarse.repeat(10, 1).repeat(5, 2).astype(np.int32)
    width = functools.partial(layers.scaled_channels, width_multiplier=backend_outputs.NETWORK["width_multiplier"])
    graph = reference_graph.ReferenceGraph(num_middle_units=1, width=width)
    teacher = graph(image)["logits"]
    return {
        backend_outputs.IMAGE: image,
        backend_outputs.LABELS: labels,
        backend_outputs.TEACHER: teacher,
        **graph.variables,
    }


@pytest.fixture(scope="module")
def running(inputs, tmp_path_factory):
    """One process a backend that is installed, all at once: backend -> (process, file of its outputs)."""
    folder = tmp_path_factory.mktemp("backends")
    np.savez(folder / "inputs.npz", **inputs)
    started = {}
    for backend in BACKENDS:
        if importlib.util.find_spec(backend):
            path = folder / f"{backend}.npz"
            environment = os.environ | ON_CPU | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, backend_outputs.__file__, folder / "inputs.npz", path]
            process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            started[backend] = process, path
    yield started
    for process, _ in started.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def expected(running, inputs):
    """What TensorFlow gives, in this process."""
    return backend_outputs.compute(inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_gives_what_tensorflow_gives(backend, running, expected):
    if backend not in running:
        pytest.skip(f"{backend} is not installed: pip install 'flood_distill[backends]'")
    process, path = running[backend]
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    outputs = dict(np.load(path))
    assert outputs.keys() == expected.keys()
    ours, theirs = outputs.pop(backend_outputs.GRADIENT), expected[backend_outputs.GRADIENT]
    assert ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs)) > 0.999
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=0.03)
    for name, value in outputs.items():
        scale = np.abs(expected[name]).max()
        assert scale > 0, name
        np.testing.assert_allclose(value / scale, expected[name] / scale, atol=1e-5, err_msg=name)
