"""The examples in docstrings, whose answers are known."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import analysis

MODULES = [m.name for m in pkgutil.walk_packages(analysis.__path__, "analysis.") if ".micro" not in m.name]


@pytest.mark.parametrize("module", MODULES)
def test_doctests(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
