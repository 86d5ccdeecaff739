"""DETR's names and shapes; `tests/detectors/detr_test.py` fills networks by them.

The published networks' outputs for weights that are filled so are there.
"""

import numpy as np
import pytest

from tests.weights import foreign
from tfdet.errors import UserError
from tfdet.weights.detr import SOURCE, reference_entries


def published(network="resnet50", classes=92):
    """{name: shape} of a published file: the backbone's names are torchvision's."""
    shapes = dict(_transformer())
    shapes |= {"class_embed.weight": (classes, 256), "class_embed.bias": (classes,)}
    for i, outputs in enumerate((256, 256, 4)):
        shapes[f"bbox_embed.layers.{i}.weight"] = (outputs, 256)
        shapes[f"bbox_embed.layers.{i}.bias"] = (outputs,)
    shapes["query_embed.weight"] = (100, 256)
    shapes |= {"input_proj.weight": (256, 2048, 1, 1), "input_proj.bias": (256,)}
    body = foreign.shapes("torchvision", network)
    return shapes | {
        f"backbone.0.body.{name}": shape
        for name, shape in body.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }


def _transformer():
    sides = {"encoder": (("self_attn",), 2), "decoder": (("self_attn", "multihead_attn"), 3)}
    for part, (attentions, norms) in sides.items():
        for i in range(6):
            prefix = f"transformer.{part}.layers.{i}"
            for name in attentions:
                yield f"{prefix}.{name}.in_proj_weight", (768, 256)
                yield f"{prefix}.{name}.in_proj_bias", (768,)
                yield f"{prefix}.{name}.out_proj.weight", (256, 256)
                yield f"{prefix}.{name}.out_proj.bias", (256,)
            yield from (
                (f"{prefix}.linear1.weight", (2048, 256)),
                (f"{prefix}.linear1.bias", (2048,)),
            )
            yield from (
                (f"{prefix}.linear2.weight", (256, 2048)),
                (f"{prefix}.linear2.bias", (256,)),
            )
            for number in range(1, norms + 1):
                yield f"{prefix}.norm{number}.weight", (256,)
                yield f"{prefix}.norm{number}.bias", (256,)
    yield from (
        ("transformer.decoder.norm.weight", (256,)),
        ("transformer.decoder.norm.bias", (256,)),
    )


@pytest.mark.parametrize(
    ("name", "network", "count"),
    [("r50", "resnet50", 458), ("r50-dc5", "resnet50", 458), ("r101", "resnet101", 713)],
)
def test_every_tensor_has_its_place(name, network, count):
    shapes = published(network)
    assert len(shapes) == count
    assert SOURCE.recognises(shapes) and not SOURCE.backbone_only(shapes)
    model, entries = foreign.created(SOURCE, f"detr-{name}", shapes)
    foreign.check_entries(entries, shapes, model.weights)
    assert model.num_classes == 91
    assert {x.name for x in entries if x.per_class} == {"class_embed.weight", "class_embed.bias"}


def test_the_names_are_in_the_order_of_the_file():
    names = list(dict.fromkeys(x.name for x in reference_entries(foreign.unfilled("detr-r50"))))
    names = [name for name in names if not name.endswith("num_batches_tracked")]
    # Within a block, each batch norm follows its convolution here.
    assert names[:193] == list(published())[:193]
    assert len(names) == 458


def test_queries_keys_and_values_are_thirds_of_one_tensor():
    entries = reference_entries(foreign.unfilled("detr-r50"))
    name = "transformer.decoder.layers.0.multihead_attn.in_proj_weight"
    array = np.arange(768.0)[:, None] + np.zeros(256)
    parts = {x.variable.path.split("/")[-2]: x.convert(array) for x in entries if x.name == name}
    first = {key: (x[0, 0], x[0, -1], x.shape) for key, x in parts.items()}
    assert first == {
        "query": (0, 255, (256, 256)),
        "key": (256, 511, (256, 256)),
        "value": (512, 767, (256, 256)),
    }


def test_classes_are_counted_without_no_object():
    assert SOURCE.settings("detr-r50", published(classes=6))["num_classes"] == 5


@pytest.mark.parametrize(
    ("name", "message"), [("fcos-r50", "such as detr-r50"), ("detr-r101", "backbone is r101-3x3")]
)
def test_other_models_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        SOURCE.settings(name, published())


def test_a_smaller_transformer_is_refused():
    with pytest.raises(UserError, match="encoder_layers=6, this one has encoder_layers=3"):
        foreign.created(SOURCE, "detr-r50", published(), encoder_layers=3)
