"""Installs tfdet; all metadata stands in pyproject.toml."""

import setuptools

setuptools.setup()
