"""Checkpoints of other projects to ours, one file per source."""
