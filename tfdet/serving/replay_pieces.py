"""Runs an export by its driver: `python -m tfdet.serving.replay_pieces IN.npz OUT.npz FOLDER`."""

import sys

import numpy as np

from tfdet.serving import verify_pieces
from tfdet.serving.exported import open_exported


def main(source: str, target: str, folder: str) -> None:
    outputs = verify_pieces.driver_cases(open_exported(folder), dict(np.load(source)))
    np.savez(target, **outputs)  # type: ignore[arg-type]  # no name of ours is an option


if __name__ == "__main__":
    main(*sys.argv[1:])
