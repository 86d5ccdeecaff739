"""The version of tfdet, on its own so that a build can read it without importing TensorFlow."""

__version__ = "0.1.0"
