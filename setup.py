"""Package metadata; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "flood_distill/__init__.py").read_text()).group(1)

BEAM = ["apache-beam>=2.60"]
EARTH_ENGINE = ["earthengine-api>=1.1"]
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "psutil>=5.9",
    "pystac[validation]>=1.12",
    "rio-cogeo>=5",
    "httpx>=0.27",
    "selenium>=4.20",
]
OPENVINO = ["openvino>=2024.4"]
SWEEP = ["optuna>=4"]
VIEW = ["titiler.core>=0.18", "uvicorn>=0.30"]
SERVING = ["tensorflow-serving-api>=2.17"]  # protocol buffers and gRPC stubs of TensorFlow Serving
ONNX = ["onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"]

setup(
    name="flood_distill",
    version=VERSION,
    description="Cross modal distillation for flood extent mapping: a radar-only flood segmentation model taught by a "
    "richer teacher, in TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["flood_distill*", "data_prep*", "gin_configs"]),
    package_data={
        "flood_distill": [
            "*.qml",
            "view_page/*",
            "view_page/leaflet/*",
            "ready_student_model/*",
            "ready_student_model/*/*",
        ],
        "gin_configs": ["*.gin"],
        "flood_distill.chip_lists": ["*.txt"],
        "data_prep": ["*/README.md", "*/CITATIONS.bib", "*/TAGS.txt", "earth_engine_curation/*.csv"],
    },
    install_requires=[
        "absl-py>=2.1",
        "etils[epath]>=1.9",
        "gin-config>=0.5",
        "google-crc32c>=1.5",
        "importlib_resources>=6",  # needed by tensorflow-datasets 4.9, which does not declare it
        "keras>=3.8",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pillow>=10",
        "pystac>=1.12",
        "rasterio>=1.3.9",
        "requests>=2.31",
        "scikit-image>=0.22",
        "scipy>=1.11",
        "shapely>=2.1",
        "tensorboard>=2.17",
        "tensorflow>=2.17",
        "tensorflow-datasets>=4.9.7",
        "tqdm>=4.66",
    ],
    extras_require={
        # The last tensorflow-io loads up to TF 2.17.1 only; this line fixes the pins that go with it.
        "io": [
            "tensorflow==2.17.1",
            "tensorflow-io==0.37.1",
            "tensorflow-metadata<=1.17.1",
            "protobuf<5",
            "numpy<2",
        ],
        "iotest": ["moto[server]>=5"],  # a local S3 server
        "cuda": ["tensorflow[and-cuda]>=2.17"],
        "earthengine": EARTH_ENGINE,
        # Networks, losses and metrics run on every Keras backend. pip's torch brings CUDA with it: where
        # the CPU is enough, install a build for the CPU alone first, from PyTorch's own index.
        "backends": ["jax>=0.10", "torch>=2.13"],
        "beam": BEAM,
        "sweep": SWEEP,
        "openvino": OPENVINO,
        "onnx": ONNX,
        "serving": SERVING,
        "view": VIEW,
        "test": TEST,
        "dev": [*TEST, *BEAM, *EARTH_ENGINE, *OPENVINO, *ONNX, *SERVING, *SWEEP, *VIEW, "ruff>=0.9"],
    },
    entry_points={
        "console_scripts": [
            *(
                f"flood_distill_{name} = flood_distill.{name}:entry_point"
                for name in (
                    "train",
                    "evaluate",
                    "export",
                    "predict",
                    "calibrate",
                    "view",
                    "reproduce",
                    "checkpoints",
                    "supervise",
                    "sweep",
                    "ablation",
                )
            ),
            *(
                f"flood_distill_{name} = data_prep.{name}:entry_point"
                for name in ("download", "earth_engine", "synthesize", "convert", "inspect")
            ),
        ]
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: GIS",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
