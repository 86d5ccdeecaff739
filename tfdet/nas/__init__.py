"""Joint-DetNAS (https://arxiv.org/abs/2105.12971): search, prune and distil a trained detector."""

from tfdet.nas import additions  # noqa: F401  registers them
