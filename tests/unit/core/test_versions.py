"""Versions of this package and its libraries."""

import importlib.metadata

from clip_unlearn.core.versions import library_versions, version


def test_this_package():
    assert version() == importlib.metadata.version("clip-unlearn")


def test_libraries_that_are_not_installed_are_left_out():
    assert library_versions(("torch", "no-such-library")) == {"torch": importlib.metadata.version("torch")}
    assert {"torch", "transformers", "safetensors"} <= library_versions().keys()
