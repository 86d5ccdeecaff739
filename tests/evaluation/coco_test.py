"""Tests of the COCO evaluation."""

import dataclasses
import importlib.util
import types

import numpy as np
import pytest
from pycocotools import mask as coco_masks

import tfdet
from tfdet.data import decode, outlines, sources
from tfdet.errors import UserError
from tfdet.evaluation import coco
from tfdet.serving import compare


@dataclasses.dataclass(frozen=True)
class Truth:
    """The part of a DetectionDataset that the evaluator reads."""

    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    areas: np.ndarray
    box_offsets: np.ndarray
    image_ids: np.ndarray
    class_names: tuple = ("cat", "dog", "emu")
    class_ids: tuple = (3, 7, 90)
    name: str = "toy"

    def __len__(self):
        return len(self.image_ids)


def _truth(num_images=20, seed=0, crowd_share=0.2):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 7, num_images)  # 0: images without ground truth
    total = counts.sum()
    corner = random.uniform(0, 300, (total, 2))
    size = random.uniform(4, 200, (total, 2))
    return Truth(
        boxes=np.concatenate([corner, corner + size], 1).astype(np.float32),
        labels=random.integers(0, 2, total).astype(np.int32),  # no emu at all
        is_crowd=random.random(total) < crowd_share,
        areas=(0.7 * size.prod(1)).astype(np.float32),
        box_offsets=np.concatenate([[0], np.cumsum(counts)]),
        image_ids=1000 + 3 * np.arange(num_images),
    )


def _padded(truth, rows, scores=None, jitter=0.0, seed=1):
    """Ground truth as detections, padded to `rows` rows of nonsense."""
    random = np.random.default_rng(seed)
    num_images, counts = len(truth), np.diff(truth.box_offsets)
    found = {
        "boxes": random.uniform(0, 500, (num_images, rows, 4)).astype(np.float32),
        "scores": np.ones((num_images, rows), np.float32),
        "labels": np.zeros((num_images, rows), np.int32),
        "count": counts.astype(np.int32),
    }
    for i, count in enumerate(counts):
        own = slice(truth.box_offsets[i], truth.box_offsets[i + 1])
        noise = random.normal(0, jitter, (count, 4)) if jitter else 0
        found["boxes"][i, :count] = truth.boxes[own] + noise
        found["labels"][i, :count] = truth.labels[own]
        if scores is not None:
            found["scores"][i, :count] = random.choice(scores, count)
    return found


def _result(truth, found, backend="pycocotools"):
    evaluator = coco.CocoEvaluator(truth, backend)
    evaluator.add(range(len(truth)), found)
    return evaluator.result()


@pytest.mark.parametrize("crowd_share", [0.0, 0.3])
def test_ground_truth_as_detections_scores_one(crowd_share):
    truth = _truth(crowd_share=crowd_share)
    metrics = _result(truth, _padded(truth, 12))
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "ARmax100", "AP/cat", "AP/dog"):
        assert metrics[name] == pytest.approx(1.0, abs=1e-9), name
    assert metrics["AP/emu"] == -1.0


def test_images_without_detections_lower_the_score():
    truth = _truth(crowd_share=0.0)
    found = _padded(truth, 12)
    half = _padded(truth, 12)
    half["count"][::2] = 0
    evaluator = coco.CocoEvaluator(truth, "pycocotools")
    evaluator.add(range(1, len(truth), 2), {key: value[1::2] for key, value in found.items()})
    assert evaluator.result() == _result(truth, half)
    assert evaluator.result()["AP"] < 0.9


@pytest.mark.parametrize("backend", coco._BACKENDS)
def test_images_left_out_are_not_missed(backend):
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    truth = _truth(crowd_share=0.0)
    evaluator = coco.CocoEvaluator(truth, backend)
    found = _padded(truth, 12)
    evaluator.add(range(1, 20), {key: value[1:] for key, value in found.items()})
    evaluator.leave_out([0])
    assert np.diff(truth.box_offsets)[0] > 0
    assert evaluator.num_left_out == 1
    assert evaluator.result()["AP"] == pytest.approx(1.0, abs=1e-9)


def test_no_detections_at_all_give_zero():
    truth = _truth()
    metrics = coco.CocoEvaluator(truth, "pycocotools").result()
    assert (metrics["AP"], metrics["ARmax100"], metrics["AP/cat"]) == (0.0, 0.0, 0.0)


def test_no_ground_truth_at_all_gives_minus_one():
    truth = _truth()
    empty = dataclasses.replace(
        truth,
        boxes=truth.boxes[:0],
        labels=truth.labels[:0],
        is_crowd=truth.is_crowd[:0],
        areas=truth.areas[:0],
        box_offsets=np.zeros_like(truth.box_offsets),
    )
    assert set(_result(empty, _padded(truth, 12)).values()) == {-1.0}


def test_detection_in_a_crowd_is_not_a_mistake():
    truth = Truth(
        boxes=np.array([[0, 0, 40, 40], [100, 100, 200, 200]], np.float32),
        labels=np.array([0, 0], np.int32),
        is_crowd=np.array([False, True]),
        areas=np.array([1600, 10000], np.float32),
        box_offsets=np.array([0, 2]),
        image_ids=np.array([5]),
    )
    boxes = np.array([[[110, 110, 130, 130], [150, 150, 190, 190], [0, 0, 40, 40]]], np.float32)
    found = {
        "boxes": boxes,
        "scores": np.array([[0.9, 0.8, 0.7]], np.float32),
        "labels": np.zeros((1, 3), np.int32),
        "count": np.array([3]),
    }
    assert _result(truth, found)["AP"] == pytest.approx(1.0)
    plain = dataclasses.replace(truth, is_crowd=np.array([False, False]))
    assert _result(plain, found)["AP"] < 0.5


def test_order_of_batches_does_not_matter():
    truth = _truth()
    found = _padded(truth, 12, scores=np.linspace(0.1, 0.9, 50), jitter=8.0)
    evaluator = coco.CocoEvaluator(truth, "pycocotools")
    for part in (slice(10, 20), slice(0, 10)):
        batch = {key: value[part] for key, value in found.items()}
        evaluator.add(range(len(truth))[part], batch)
    assert evaluator.result() == pytest.approx(_result(truth, found), abs=1e-12)


@pytest.mark.skipif(
    not importlib.util.find_spec("faster_coco_eval"), reason="faster-coco-eval is not installed"
)
@pytest.mark.parametrize("jitter", [0.0, 6.0])
def test_faster_coco_eval_gives_the_same_numbers(jitter):
    truth = _truth(num_images=60, seed=3)
    # Few distinct scores: ties are broken alike too.
    found = _padded(truth, 12, scores=[0.2, 0.5, 0.9], jitter=jitter)
    expected = _result(truth, found)
    assert _result(truth, found, "faster-coco-eval") == pytest.approx(expected, abs=1e-9)
    none = coco.CocoEvaluator(truth, "faster-coco-eval").result()
    assert none == coco.CocoEvaluator(truth, "pycocotools").result()


def test_detections_carry_original_ids_and_xywh():
    truth = _truth(num_images=2)
    found = _padded(truth, 8)
    found["boxes"][1, 0], found["labels"][1, 0], found["count"][1] = (1, 2, 11.004, 22), 1, 1
    found["count"][0] = 0
    evaluator = coco.CocoEvaluator(truth)
    evaluator.add([0, 1], found)
    assert evaluator.detections() == [
        {"image_id": 1003, "category_id": 7, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 1.0}
    ]


def test_image_added_twice_is_refused():
    truth = _truth(num_images=2)
    evaluator = coco.CocoEvaluator(truth)
    evaluator.add([0, 1], _padded(truth, 8))
    with pytest.raises(ValueError, match="image 1 of toy was added twice"):
        evaluator.add([1], {key: value[1:] for key, value in _padded(truth, 8).items()})


def _model(*names, num_classes=None):
    config = types.SimpleNamespace(class_names=names)
    return types.SimpleNamespace(config=config, num_classes=num_classes or len(names))


def test_classes_are_matched_by_name():
    truth = _truth(num_images=1)
    model = _model("emu", "bee", "cat", "dog")
    assert coco.label_map(model, truth).tolist() == [2, -1, 0, 1]
    assert coco.label_map(_model(num_classes=3), truth).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (_model("cat", "dog"), "class 'emu' of data set toy is not among the model's 2 classes"),
        (_model(num_classes=90), "the model has 90 classes without names, data set toy has 3"),
    ],
)
def test_foreign_classes_are_refused(model, sentence):
    with pytest.raises(UserError, match=sentence):
        coco.label_map(model, _truth(num_images=1))


def test_table_shows_percent_and_a_dash_for_nothing_to_find():
    metrics = dict.fromkeys(coco.METRICS, 0.5) | {"APs": -1.0, "AP/cat": 0.123}
    lines = coco.format_table(metrics).splitlines()
    assert lines[0].split()[:2] == ["AP", "50.0"]
    assert lines[3].split()[:2] == ["APs", "-"]
    assert lines[-1].split() == ["cat", "12.3"]


def test_ground_truth_of_real_coco_files_scores_one(coco_tiny):
    dataset = sources.open_dataset(
        f"coco:{coco_tiny}/annotations/instances_val2017.json:{coco_tiny}/val2017"
    )
    assert dataset.is_crowd.any()
    evaluator = coco.CocoEvaluator(dataset)
    for i in range(len(dataset)):
        rows = dataset.rows(i)
        one = {
            "boxes": dataset.boxes[rows][None],
            "scores": np.ones((1, rows.stop - rows.start)),
            "labels": dataset.labels[rows][None],
            "count": [rows.stop - rows.start],
        }
        evaluator.add([i], one)
    metrics = evaluator.result()
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        assert metrics[name] == pytest.approx(1.0, abs=1e-9), name
    ids = {row["category_id"] for row in evaluator.detections()}
    assert ids == set(np.asarray(dataset.class_ids)[np.unique(dataset.labels)])


@pytest.fixture(scope="module")
def detector():
    return tfdet.create(
        "efficientdet-test",
        num_classes=5,
        class_names=("cross", "star", "circle", "square", "triangle"),
    )


def _of_image(rows, image_id, dataset, class_names):
    """Rows of the COCO server as a batch of one, with the labels of a model."""
    rows = [row for row in rows if row["image_id"] == image_id]
    boxes = np.array([row["bbox"] for row in rows])
    boxes[:, 2:] += boxes[:, :2]
    names = [dataset.class_names[dataset.class_ids.index(r["category_id"])] for r in rows]
    return {
        "boxes": boxes[None].astype(np.float32),
        "scores": np.array([[row["score"] for row in rows]], np.float32),
        "labels": np.array([[class_names.index(name) for name in names]], np.int32),
        "count": np.array([len(rows)], np.int32),
    }


@pytest.mark.parametrize("batch_size", [1, 4, pytest.param(10, marks=pytest.mark.slow)])
def test_any_batch_size_measures_what_predict_gives(detector, batch_size):
    dataset = sources.open_dataset("shapes:val").subset(10)
    seen = []
    evaluation = coco.Evaluation(detector, dataset, batch_size)
    found = evaluation.run(lambda done, total: seen.append((done, total))).detections()
    assert seen[-1] == (10, 10)
    assert len(seen) == -(-10 // batch_size)
    for i, image_id in enumerate(dataset.image_ids.tolist()):
        image = decode.decode_image(dataset.encoded(i))
        expected = detector.predict(image[None], verbose=0)
        one = _of_image(found, image_id, dataset, detector.class_names)
        assert compare.compare(expected, one, f"image {image_id}").mismatches == ()


def test_evaluation_follows_the_weights(detector):
    dataset = sources.open_dataset("shapes:val").subset(2)
    evaluation = coco.Evaluation(detector, dataset, 2)
    before = evaluation.run().detections()
    weights = detector.get_weights()
    detector.set_weights([w + 0.1 for w in weights])
    after = evaluation.run().detections()
    detector.set_weights(weights)
    assert before != after
    assert evaluation.run().detections() == before


def test_evaluation_refuses_what_cannot_be_measured(detector):
    dataset = sources.open_dataset("shapes:val")
    with pytest.raises(UserError, match="batch size must be at least 1, got 0"):
        coco.Evaluation(detector, dataset, 0)
    with pytest.raises(UserError, match="has no images"):
        coco.Evaluation(detector, dataset.subset(0))


@dataclasses.dataclass(frozen=True)
class _Outlined(Truth):
    sizes: np.ndarray | None = None
    outlines: object = None


def _outlined():
    """Three images with a square each; the second and third squares have outlines of their own."""
    boxes = np.float32([[4, 4, 24, 24], [10, 6, 38, 34], [8, 8, 16, 16]])
    ring = [10, 6, 38, 6, 38, 34, 10, 34]
    pixels = np.zeros((64, 80), np.uint8)
    pixels[8:16, 8:16] = 1
    runs = coco_masks.encode(np.asfortranarray(pixels))
    return _Outlined(
        boxes=boxes,
        labels=np.int32([0, 1, 1]),
        is_crowd=np.zeros(3, bool),
        areas=np.float32([400, 784, 64]),
        box_offsets=np.arange(4),
        image_ids=np.arange(3) + 5,
        sizes=np.array([[64, 80]] * 3),
        outlines=outlines.Outlines.from_segmentations([None, [ring], runs]),
    )


def _random_outlined(seed):
    """Images, some of them empty, whose objects have polygons, run lengths or no outline."""
    truth = _truth(num_images=15, seed=seed, crowd_share=(0.0, 0.2, 0.9)[seed % 3])
    random = np.random.default_rng(seed)
    boxes = truth.boxes.clip(0, 119)
    kinds = np.where(truth.is_crowd, 2, random.integers(0, 3, len(boxes)))

    def outline(box, kind):
        x0, y0, x1, y1 = map(float, box)
        pixels = np.zeros((120, 120), np.uint8)
        pixels[int(y0) : int(y1), int(x0) : int(x1) : 2] = 1
        polygon = [x0, y0, x1, y0, x1, (y0 + y1) / 2, x0, y1]
        return (None, [polygon], coco_masks.encode(np.asfortranarray(pixels)))[kind]

    segmentations = [outline(box, kind) for box, kind in zip(boxes, kinds, strict=True)]
    return _Outlined(
        **{**vars(truth), "boxes": boxes},
        sizes=np.full((15, 2), 120),
        outlines=outlines.Outlines.from_segmentations(segmentations),
    )


@pytest.mark.skipif(
    not importlib.util.find_spec("faster_coco_eval"), reason="faster-coco-eval is not installed"
)
@pytest.mark.parametrize("seed", range(12))
def test_faster_coco_eval_gives_the_same_numbers_of_random_sets_with_masks(seed):
    truth, random = _random_outlined(seed), np.random.default_rng(seed)
    ties = [None, [0.3, 0.6], list(np.linspace(0, 1, 50))][seed % 3]
    found = _padded(truth, 9, scores=ties, jitter=(0.0, 3.0, 20.0)[seed // 4], seed=seed)
    found["boxes"] = found["boxes"].clip(0, 120)
    found["count"] = random.integers(0, 10, 15)  # nonsense too, and images where nothing is found
    found["labels"] = np.where(found["labels"] < 0, 0, found["labels"]) % 3
    found["masks"] = random.uniform(0.2, 1, (15, 9, 28, 28))
    expected, numbers = _result(truth, found), _result(truth, found, "faster-coco-eval")
    assert numbers == pytest.approx(expected, abs=1e-12)
    assert {"AP", "mask/AP"} <= numbers.keys()


@pytest.mark.parametrize("backend", coco._BACKENDS)
def test_masks_are_measured_beside_boxes(backend):
    if backend == "faster-coco-eval" and not importlib.util.find_spec("faster_coco_eval"):
        pytest.skip("faster-coco-eval is not installed")
    truth = _outlined()
    found = _padded(truth, 2)
    results = []
    for masks in (np.ones((3, 2, 28, 28)), np.ones((3, 2, 28, 28)), np.zeros((3, 2, 28, 28))):
        if len(results) == 1:
            masks[1, 0, 14:] = 0  # the upper half: an IoU of one half, good for one threshold
        evaluator = coco.CocoEvaluator(truth, backend)
        evaluator.add(range(3), {**found, "masks": masks})
        results.append(evaluator.result())
    assert all(result["AP"] == pytest.approx(1) for result in results)
    assert results[0]["mask/AP"] == pytest.approx(1)
    half = results[1]
    assert half["mask/AP/cat"] == pytest.approx(1)
    # Two dogs of equal score, the first of which fails from 0.55 on.
    assert half["mask/AP50"] == pytest.approx(1) and half["mask/AP/dog"] < 0.6
    assert results[2]["mask/AP"] == 0
    assert "Masks" in coco.format_table(results[0])
    rows = evaluator.detections()
    assert rows[0]["segmentation"]["size"] == [64, 80]


def _three_squares():
    """Three objects of a class in two images, outlined by their boxes."""
    boxes = np.float32([[0, 0, 100, 100], [120, 0, 220, 100], [40, 20, 140, 120]])
    return _Outlined(
        boxes=boxes,
        labels=np.zeros(3, np.int32),
        is_crowd=np.zeros(3, bool),
        areas=np.full(3, 1e4, np.float32),
        box_offsets=np.array([0, 2, 3]),
        image_ids=np.arange(2),
        class_names=("cat",),
        class_ids=(1,),
        sizes=np.array([[128, 256]] * 2),
        outlines=outlines.Outlines.from_segmentations([None] * 3),
    )


# The best detection has an IoU of 0.82, the second is wrong, the third is perfect. Recalls of 0 to
# 0.33 are 34 of COCO's 101, those to 0.66 another 33. Up to the threshold 0.8 the precision there
# is 1 and 2/3; from 0.85 on only the third counts, the last of three. Among large objects, wrong
# detections that are not large themselves, as both are, do not count.
_LOOSE, _STRICT = (34 + 33 * 2 / 3) / 101, 34 / 3 / 101
_BY_HAND = {
    "AP": 0.7 * _LOOSE + 0.3 * _STRICT,
    "AP50": _LOOSE,
    "AP75": _LOOSE,
    "APl": (0.7 * 67 + 0.3 * 34) / 101,
}


@pytest.mark.parametrize("backend", coco._BACKENDS)
@pytest.mark.parametrize("in_mask", [False, True])
def test_precision_is_that_of_a_case_by_hand(backend, in_mask):
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    best = [0, 0, 100, 100] if in_mask else [0, 0, 100, 82]
    boxes = np.float32([[best, [140, 60, 240, 110]], [[40, 20, 140, 120], [0, 0, 0, 0]]])
    masks = np.ones((2, 2, 50, 50), np.float32)
    if in_mask:
        masks[0, 0, 41:] = 0  # the lowest 18 rows of pixels
    found = {
        "boxes": boxes,
        "scores": np.float32([[0.9, 0.8], [0.7, 0]]),
        "labels": np.int32([[0, 0], [0, -1]]),
        "count": np.array([2, 1]),
        "masks": masks,
    }
    result = _result(_three_squares(), found, backend)
    assert {k: result["mask/" + k] for k in _BY_HAND} == pytest.approx(_BY_HAND, abs=1e-9)
    if not in_mask:
        assert {k: result[k] for k in _BY_HAND} == pytest.approx(_BY_HAND, abs=1e-9)


def _pixels_as_detections(dataset, image):
    """The ground-truth masks of an image as a batch of one; a frame has a cell for each pixel."""
    rows = range(dataset.rows(image).start, dataset.rows(image).stop)
    size = tuple(int(x) for x in dataset.sizes[image])
    pixels = [coco_masks.decode(dataset.outlines.runs(t, size)) for t in rows]
    frames = [
        np.concatenate([np.argwhere(x).min(0), np.argwhere(x).max(0) + 1]) if x.any() else [0] * 4
        for x in pixels
    ]
    side = max((max(y1 - y0, x1 - x0) for y0, x0, y1, x1 in frames), default=1)
    masks, boxes = np.zeros((1, len(rows), side, side)), np.zeros((1, len(rows), 4))
    for n, (y0, x0, y1, x1) in enumerate(frames):
        masks[0, n, : y1 - y0, : x1 - x0] = pixels[n][y0:y1, x0:x1]
        boxes[0, n] = x0, y0, x0 + side, y0 + side  # may reach beyond the image
    return {
        "boxes": boxes,
        "scores": np.ones((1, len(rows))),
        "labels": dataset.labels[dataset.rows(image)][None],
        "count": [len(rows)],
        "masks": masks,
    }


@pytest.mark.parametrize("split", ["train", "val"])
def test_ground_truth_masks_of_real_coco_files_score_one(coco_tiny, split):
    dataset = sources.open_dataset(
        f"coco:{coco_tiny}/annotations/instances_{split}2017.json:{coco_tiny}/{split}2017"
    )
    crowded = [i for i in range(len(dataset)) if dataset.is_crowd[dataset.rows(i)].any()]
    dataset = dataset.select(np.union1d(crowded, range(16)))
    evaluator = coco.CocoEvaluator(dataset)
    for i in range(len(dataset)):
        evaluator.add([i], _pixels_as_detections(dataset, i))
    metrics = evaluator.result()
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        assert metrics[f"mask/{name}"] == pytest.approx(1.0, abs=1e-9), name


def test_the_name_of_a_data_set_is_no_data_set():
    with pytest.raises(UserError, match=r"as tfdet.open_dataset returns it, got str"):
        coco.evaluate(None, "shapes:val")
