"""Tests that need GStreamer in this very process: skipped where gi is missing.

The system's Python sees gi; tests/unit/runtime/capture/test_gstreamer.py runs this folder there.
"""

from __future__ import annotations

import importlib.util

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("gi") is None:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs PyGObject: the package python3-gi, and the system's Python"))
