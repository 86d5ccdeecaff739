"""Backbones that would be another function than the one that their weights are for."""

from tests.faults.case import Case


def inspect(*assignments: str):
    """`tfdet-inspect` of a detector with these keys."""
    hparams = f"--hparams={','.join(assignments)}"
    return lambda folder: ["tfdet-inspect", hparams, "--image_size=64,64"]


LITE = ("model.backbone=lite0", "model.frozen_stages=0")
SAYS = "the backbone 'lite0' takes its own pixels, .* got pixels: {}; set pixels: lite"

CASES = [
    Case(
        "W3 lite0 in FCOS with the pixels of Detectron",
        inspect("model.name=fcos-r50", *LITE),
        says=SAYS.format("detectron"),
    ),
    Case(
        "W3 lite0 in Faster R-CNN with the pixels of ImageNet",
        inspect("model.name=faster-rcnn-r50", *LITE),
        says=SAYS.format("imagenet"),
    ),
    Case(
        "W3 lite0 in RetinaNet with its own pixels",
        inspect("model.name=retinanet-test", *LITE, "model.pixels=lite"),
        code=0,
        says="parameters",
    ),
    Case(
        "W3 lite0 in EfficientDet-D0 with swish",
        inspect("model.name=efficientdet-d0", "model.backbone=lite0", "model.pixels=lite"),
        says="has ReLU6, got activation: swish; set activation: relu6",
    ),
]
