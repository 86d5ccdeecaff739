"""Joint-DetNAS (https://arxiv.org/abs/2105.12971): the students that it found, as models to train,
and the super-networks of its teacher pool.

Batch norms are trained in all stages: channels are pruned, and blocks inserted, by them.
"""

import dataclasses

from tfdet import registry
from tfdet.backbones.encoding import Encoding, encoding_of_widths, super_encoding
from tfdet.detectors.faster_rcnn import NANO, FasterRCNN, FasterRCNNConfig


def _same_output(width: int, *inner: tuple[int, int]) -> list[tuple[int, int, int]]:
    return [(*widths, width) for widths in inner]


def _equal_inner(width: int, *inner: int) -> list[tuple[int, int, int]]:
    """Blocks of a ResNeXt: both inner convolutions are equally wide."""
    return [(x, x, width) for x in inner]


_R50 = [
    _same_output(205, (58, 59), (60, 64), (63, 62)),
    _same_output(314, (127, 128), (109, 122), (127, 123), (125, 124)),
    _same_output(591, (256, 255), (243, 245), (237, 247), (243, 246), (252, 244), (252, 254)),
    _same_output(1856, (509, 507), (509, 506), (508, 507)),
]
# The last stage begins with two blocks of the third: rearranged.
_R101 = [
    _same_output(202, (49, 62), (35, 33), (56, 62)),
    _same_output(300, (123, 128), (57, 90), (117, 113), (124, 117)),
    _same_output(
        321,
        *((255, 254), (65, 127), (32, 47), (32, 63), (120, 161), (132, 181), (162, 232)),
        *((175, 241), (143, 237), (199, 246), (210, 238), (201, 225), (210, 215), (211, 222)),
        *((201, 208), (198, 206), (220, 213), (226, 221), (234, 221), (237, 222)),
    ),
    [
        *_same_output(321, (249, 229), (245, 231)),
        *_same_output(2031, (511, 478), (507, 503), (491, 477)),
    ],
]
_X101 = [
    _equal_inner(256, 128, 112, 124),
    _equal_inner(512, 256, 256, 256, 256),
    _equal_inner(
        1024,
        *(512, 448, 480, 496, 512, 464, 416, 416, 416, 416, 432, 496),
        *(400, 400, 464, 464, 432, 352, 400, 384, 272, 384, 384),
    ),
    [*_equal_inner(1024, 384, 352), *_equal_inner(2048, 1024, 864, 384)],
]

FOUND: dict[str, Encoding] = {
    "r18": encoding_of_widths([[(64, 64)], *([(x, x)] * 2 for x in (128, 256, 512))]),
    "r50": encoding_of_widths(_R50),
    "r101": encoding_of_widths(_R101),
    "x101": encoding_of_widths(_X101, group_width=4),
}

_BASE = FasterRCNNConfig(batch_norm="synchronized", frozen_stages=0)
# (height, width) that each was found with; not padded, as the published counts have it.
_SIZES = {"x101": (800, 1333)}

for _name, _encoding in FOUND.items():
    _size = _SIZES.get(_name, (720, 1080))
    _config = dataclasses.replace(_BASE, backbone=_encoding, image_size=_size)
    registry.register(f"joint-detnas-{_name}", FasterRCNN, _config)

# "nano" is ours, for small images without a GPU: a super-network for faster-rcnn-nano.
for _name, _config in {
    "r101": dataclasses.replace(_BASE, backbone=super_encoding((3, 4, 23, 3))),
    "nano": dataclasses.replace(NANO, backbone=super_encoding((2, 2, 3, 2), stem=8)),
}.items():
    registry.register(f"elastic-faster-rcnn-{_name}", FasterRCNN, _config)
