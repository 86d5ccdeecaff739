"""PackDet, an FCOS with a packed head (ECCV 2020): all levels in one map, one long head.

Nothing is unpacked: points, targets, losses and detections live on the packed map, in whose gaps
the background is learnt too.
"""

import dataclasses

from tfdet import registry
from tfdet.detectors.fcos import FCOS, IMPROVED, MOBILE, NANO, TEST
from tfdet.heads.packed import PackingConfig

_IMPROVED = dataclasses.replace(IMPROVED, head="packed")

# The published figures of these configurations are in the recipes (`recipes/packdet`).
_TABLE = {
    "mnv2": dataclasses.replace(MOBILE, head="packed"),
    "r50": _IMPROVED,
    "r101": dataclasses.replace(_IMPROVED, backbone="r101"),
    "x101-dcn": dataclasses.replace(_IMPROVED, backbone="x101-dcn", head_deformable=True),
    # Ours.
    "nano": dataclasses.replace(
        NANO, head="packed", packed=PackingConfig(filters=32, blocks=12, tower_repeats=2, groups=8)
    ),
    "test": dataclasses.replace(
        TEST, head="packed", packed=PackingConfig(filters=8, blocks=2, tower_repeats=1, groups=2)
    ),
}

for _name, _entry in _TABLE.items():
    registry.register(f"packdet-{_name}", FCOS, _entry)
