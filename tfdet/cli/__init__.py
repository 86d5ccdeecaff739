"""The commands, one file each: `tfdet-train` is `python -m tfdet.cli.train`."""
