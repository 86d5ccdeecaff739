"""torchvision's networks with seeded random weights against ours with the same ones, live.

Detectors are compared twice: raw outputs on random images, and detections on three photographs,
resized to one canvas that neither side resizes again.
"""

import keras
import numpy as np
import pytest
from PIL import Image

from tests.weights import foreign
from tfdet import registry
from tfdet.layers.image_normalization import IMAGENET_MEAN, IMAGENET_STD
from tfdet.weights.torchvision import SOURCE

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.parity

BACKBONES = {
    "resnet18": "faster-rcnn-r18",
    "resnet50": "fcos-r50",
    "resnet101": "faster-rcnn-r101",
    "resnext101_64x4d": "fcos-r50",
    "resnext101_32x4d": "faster-rcnn-x101",
    "mobilenet_v2": "mobilenetv2-fpnlite-fcos",
    "swin_t": "mask-rcnn-swin-t",
    "swin_s": "mask-rcnn-swin-s",
}
DETECTORS = {
    "fcos_resnet50_fpn": "fcos-r50",
    "retinanet_resnet50_fpn": "retinanet-r50",
    "retinanet_resnet50_fpn_v2": "retinanet-r50",
    "fasterrcnn_resnet50_fpn": "faster-rcnn-r50",
    "maskrcnn_resnet50_fpn": "mask-rcnn-r50",
}
CANVAS = (320, 416)  # P6 and P7 have cells whose sides are no whole pixels
SIZES = [CANVAS, (256, 352)]
PHOTOGRAPHS = ("000000008193.jpg", "000000024577.jpg", "000000057345.jpg")


def classifier(network):
    if network == "resnext101_32x4d":  # torchvision publishes no weights of it
        options = {"groups": 32, "width_per_group": 4}
        block = torchvision.models.resnet.Bottleneck
        return torchvision.models.ResNet(block, [3, 4, 23, 3], **options)
    return getattr(torchvision.models, network)(weights=None)


def detector(network):
    options = {"min_size": CANVAS[0], "max_size": CANVAS[1]}
    make = getattr(torchvision.models.detection, network)
    model = make(weights=None, weights_backbone=None, **options)
    if network not in ("fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2"):
        # What torchvision makes of them when it loads its COCO weights.
        freeze(model)
        torchvision.models.detection._utils.overwrite_eps(model, 0.0)
    return model


def freeze(module):
    for name, layer in module.named_children():
        if isinstance(layer, torch.nn.BatchNorm2d):
            norm = torchvision.ops.misc.FrozenBatchNorm2d(layer.num_features, eps=layer.eps)
            setattr(module, name, norm)
        else:
            freeze(layer)


def load(model):
    """Fills a reference, and returns it ready to infer."""
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.dtype == torch.float32:
            state[name] = torch.from_numpy(foreign.value(name, tuple(tensor.shape)))
    model.load_state_dict(state)
    return model.eval()


def images(size, count=1):
    shape = (count, *size, 3)
    return np.random.default_rng(size[0]).integers(0, 256, shape).astype(np.float32)


def normalised(pixels):
    array = (pixels - IMAGENET_MEAN) / IMAGENET_STD
    return torch.from_numpy(array.transpose(0, 3, 1, 2).astype(np.float32))


def nhwc(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


@torch.no_grad()
def reference_levels(model, x):
    """{"P2": ...} of a classifier."""
    if hasattr(model, "layer1"):
        x, maps = model.maxpool(model.relu(model.bn1(model.conv1(x)))), []
        for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
            x = layer(x)
            maps.append(nhwc(x))
        return dict(zip(("P2", "P3", "P4", "P5"), maps, strict=True))
    maps, is_swin = {}, hasattr(model, "permute")
    ends = {1: "P2", 3: "P3", 5: "P4", 7: "P5"} if is_swin else {6: "P3", 13: "P4", 18: "P5"}
    for i, layer in enumerate(model.features):
        x = layer(x)
        if i in ends and not is_swin:
            maps[ends[i]] = nhwc(x)
        elif i in ends:
            norm = model.norm if i == 7 else lambda x: torch.layer_norm(x, x.shape[-1:])
            maps[ends[i]] = norm(x).numpy()
    return maps


@pytest.mark.parametrize("network", BACKBONES)
def test_backbones_give_the_same_maps(network):
    reference = load(classifier(network))
    tensors = {name: x.numpy() for name, x in reference.state_dict().items()}
    shapes = {name: x.shape for name, x in tensors.items()}
    overrides = {"backbone": "x101-64x4d"} if network == "resnext101_64x4d" else {}
    settings = {"pixels": "imagenet"} if overrides else SOURCE.settings(BACKBONES[network], shapes)
    model = registry.create(BACKBONES[network], **settings, **overrides)
    for entry in SOURCE.entries(model, shapes):
        if entry.variable is not None:
            assert entry.assign(tensors[entry.name])
    differences = {}
    for size in SIZES:
        expected = reference_levels(reference, normalised(images(size)))
        found = model.backbone(model.normalization(images(size)))
        found = {name: x for name, x in found.items() if name in expected}
        assert list(found)[-1] == "P5"
        for name, x in found.items():
            differences[name, size] = foreign.difference(x, expected[name])
    print(network, f"{max(differences.values()):.1e}")
    assert max(differences.values()) < 1e-4, differences


@pytest.mark.parametrize("network", foreign.networks("torchvision"))
def test_the_fixture_has_the_live_names_and_shapes(network):
    with torch.device("meta"):
        if hasattr(torchvision.models, network):
            model = classifier(network)
        else:
            make = getattr(torchvision.models.detection, network)
            model = make(weights=None, weights_backbone=None)
    live = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    assert live == foreign.shapes("torchvision", network)


@pytest.fixture(scope="module", params=DETECTORS)
def pair(request):
    """(name, the reference, ours with the same weights)."""
    keras.backend.clear_session()
    reference = load(detector(request.param))
    enliven(reference)
    tensors = {name: x.numpy() for name, x in reference.state_dict().items()}
    ours = foreign.filled(SOURCE, DETECTORS[request.param], tensors, image_size=CANVAS)
    return request.param, reference, ours


# Where the logits of a reference are to lie: (middle, deviation). Of dense detectors few anchors
# are to be objects, of regions most are background.
SPREADS = {
    "cls_logits": (-7.0, 2.0),
    "bbox_reg": (0.0, 0.3),
    "bbox_ctrness": (0.0, 1.0),
    "rpn.head.cls_logits": (0.0, 2.0),
    "bbox_pred": (0.0, 0.3),
    "cls_score": (0.0, 1.2),
    "mask_fcn_logits": (0.0, 2.0),
}


@torch.no_grad()
def enliven(reference):
    """Scales the predictors of a reference, so that there is something to be found."""
    layers = {}
    for name, layer in reference.named_modules():
        ends = [end for end in SPREADS if name.endswith(end)]
        if ends:
            layers[name] = layer, SPREADS[max(ends, key=len)]
    is_fcos = any("bbox_ctrness" in name for name in layers)

    def scale(layer, inputs, output, spread):
        middle, deviation = spread
        count = output.shape[1]
        rows = output.transpose(0, 1).reshape(count, -1)
        factor = deviation / rows.std()
        layer.weight.mul_(factor)
        layer.bias.mul_(factor).add_(middle - factor * rows.mean())
        return factor * output + (middle - factor * rows.mean())

    hooks, seen = [], set()
    for name, (layer, spread) in layers.items():
        if is_fcos and name.endswith("bbox_reg"):
            spread = (2.0, 1.0)  # distances in strides

        def once(layer, inputs, output, name=name, spread=spread):
            # A head sees several levels; the first one sets the scale.
            if name not in seen:
                seen.add(name)
                return scale(layer, inputs, output, spread)

        hooks.append(layer.register_forward_hook(once))
    # Twice: the second time the box head sees the proposals of the scaled network.
    reference(list(torch.from_numpy(images(CANVAS) / 255).permute(0, 3, 1, 2).float()))
    for hook in hooks:
        hook.remove()
    assert seen == set(layers)


@torch.no_grad()
def reference_raw(reference, x, size, boxes):
    """Raw outputs by our names, in our order of classes and codes."""
    maps = reference.backbone(x)
    if hasattr(reference, "head"):
        head = {name: y.numpy() for name, y in reference.head(list(maps.values())).items()}
        found = {"class_logits": head["cls_logits"][..., 1:]}
        if "bbox_ctrness" in head:
            found["box_distances"] = head["bbox_regression"]
            found["centerness_logits"] = head["bbox_ctrness"][..., 0]
        else:
            found["box_codes"] = head["bbox_regression"][..., [1, 0, 3, 2]] * [10, 10, 5, 5]
        return found
    logits, codes = reference.rpn.head(list(maps.values()))
    logits = [nhwc(y).reshape(len(x), -1) for y in logits]
    codes = [nhwc(y).reshape(len(x), -1, 4)[..., [1, 0, 3, 2]] for y in codes]
    roi = reference.roi_heads
    boxes = [torch.from_numpy(b) for b in boxes]
    regions = roi.box_roi_pool(maps, boxes, [size] * len(x))
    scores, deltas = roi.box_predictor(roi.box_head(regions))
    deltas = deltas.numpy().reshape(len(deltas), -1, 4)[:, 1:, [1, 0, 3, 2]]
    found = {
        "objectness_logits": np.concatenate(logits, axis=1),
        "anchor_codes": np.concatenate(codes, axis=1),
        "features": nhwc(regions),
        "class_logits": np.roll(scores.numpy(), -1, axis=1),
        "box_codes": deltas.reshape(len(deltas), -1),
    }
    if roi.has_mask():
        pooled = roi.mask_roi_pool(maps, boxes, [size] * len(x))
        masks = roi.mask_predictor(roi.mask_head(pooled))
        found["mask_logits"] = nhwc(masks)[..., 1:]
    return found


def our_raw(model, pixels, boxes):
    if not hasattr(model, "rpn"):
        return model(pixels, training=False)
    maps = model.pyramid(pixels)
    raw = model.rpn(maps)
    maps = {name: maps[name] for name in ("P2", "P3", "P4", "P5")}
    raw |= {name: x[0] for name, x in model.regions(maps, boxes).items()}
    if hasattr(model, "mask_head"):
        raw["mask_logits"] = model.mask_head(model.mask_align(maps, boxes))[0]
    return raw


def regions(size, count=60):
    """Boxes of all sizes, some outside of the image, [1, count, 4]."""
    rng = np.random.default_rng(1)
    center = rng.uniform(0, 1, (count, 2)) * size[::-1]
    side = np.exp(rng.uniform(np.log(2), np.log(700), (count, 2)))
    return np.concatenate([center - side / 2, center + side / 2], -1).astype(np.float32)[None]


@pytest.mark.parametrize("size", SIZES)
def test_raw_outputs_are_the_same(pair, size):
    network, reference, model = pair
    pixels, boxes = images(size), regions(size)
    expected = reference_raw(reference, normalised(pixels), size, boxes)
    found = our_raw(model, pixels, boxes)
    differences = {k: foreign.difference(found[k], x) for k, x in expected.items()}
    print(network, size, {k: f"{x:.1e}" for k, x in differences.items()})
    assert max(differences.values()) < 1e-4, differences


@torch.no_grad()
def reference_detections(reference, pixels):
    """Of one image; "masks" are those of the frames, before they are pasted."""
    kept = {}
    if hasattr(reference, "roi_heads"):
        keep = reference.roi_heads.register_forward_hook(lambda _, x, y: kept.update(y[0][0]))
    tensor = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)
    found = reference([tensor])[0]
    if kept:
        keep.remove()
        found["masks"] = kept["masks"][:, 0] if "masks" in kept else None
    return {name: x.numpy() for name, x in found.items() if x is not None}


def test_detections_on_photographs_are_the_same(pair, coco_tiny):
    network, reference, model = pair
    for name in PHOTOGRAPHS:
        photograph = Image.open(coco_tiny / "train2017" / name).convert("RGB")
        pixels = np.asarray(photograph.resize(CANVAS[::-1]))
        expected = reference_detections(reference, pixels)
        found = {k: np.asarray(x)[0] for k, x in model.predict(pixels[None], verbose=0).items()}
        count = int(found["count"])
        print(network, name, count, len(expected["scores"]))
        assert count == len(expected["scores"]) >= 20
        labels = found["labels"][:count] + 1  # the background is the first one there
        partner = partners(expected, found, labels)
        boxes = np.abs(found["boxes"][partner] - expected["boxes"]).max()
        scores = np.abs(found["scores"][partner] - expected["scores"]).max()
        print(f"  {boxes:.4f} px, {scores:.1e}")
        assert boxes < 0.5 and scores < 1e-3
        if "masks" in expected:
            assert np.abs(found["masks"][partner] - expected["masks"]).max() < 1e-2


def partners(expected, found, labels):
    """For each expected detection the row of ours with the same class and the nearest box."""
    count = len(labels)
    far = np.abs(expected["boxes"][:, None] - found["boxes"][None, :count]).max(-1)
    far += np.where(expected["labels"][:, None] == labels[None], 0, 1e6)
    rows = far.argmin(axis=1)
    assert len(set(rows)) == len(rows), "a detection of ours is nearest to two of theirs"
    return rows
