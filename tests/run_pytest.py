"""Runs the test files named on the command line with pytest; the entry point of Bazel's targets."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
