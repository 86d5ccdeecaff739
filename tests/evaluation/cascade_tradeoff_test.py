import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfdet
from tfdet.data.dataset import DetectionDataset
from tfdet.data.outlines import Outlines
from tfdet.detectors import cost_measurement
from tfdet.detectors.calibration import Calibration, share_at
from tfdet.evaluation import cascade_tradeoff, coco, tradeoff
from tfdet.visualization import tradeoff as tradeoff_figure

IMAGES = 40
RESULT = {"above_line": {}, "targets": {}}


@pytest.fixture(scope="module")
def dataset():
    """One box per image."""
    corner = np.random.default_rng(0).uniform(0, 40, (IMAGES, 2))
    boxes = np.concatenate([corner, corner + 20], axis=1).astype(np.float32)
    return DetectionDataset(
        name="squares",
        class_names=("square",),
        class_ids=(1,),
        image_ids=np.arange(IMAGES),
        names=np.array([f"{i}.png" for i in range(IMAGES)]),
        files=np.array([f"{i}.png" for i in range(IMAGES)]),
        sizes=np.full((IMAGES, 2), 200, np.int32),
        boxes=boxes,
        labels=np.zeros(IMAGES, np.int32),
        is_crowd=np.zeros(IMAGES, bool),
        areas=np.full(IMAGES, 400.0, np.float32),
        box_offsets=np.arange(IMAGES + 1),
    )


def _found(dataset, is_right):
    boxes = dataset.boxes[:, None] + np.where(is_right, 0, 100)[:, None, None]
    shape = (IMAGES, 1)
    return {
        "boxes": boxes.astype(np.float32),
        "scores": np.full(shape, 0.9, np.float32),
        "labels": np.zeros(shape, np.int32),
        "count": np.ones(IMAGES, np.int32),
    }


@pytest.fixture(scope="module")
def paths(dataset):
    """The first detector is right in half of the images, the second in all."""
    is_right = np.arange(IMAGES) % 2 == 0
    random = np.random.default_rng(1)
    easiness = np.where(
        is_right, random.uniform(0.5, 0.9, IMAGES), random.uniform(0.1, 0.4, IMAGES)
    )
    return cascade_tradeoff.Paths(
        dataset=dataset,
        index=np.arange(IMAGES),
        easiness=easiness.astype(np.float32),
        gains=np.where(is_right, 0.0, 1.0) + random.normal(0, 0.01, IMAGES),
        early=_found(dataset, is_right),
        late=_found(dataset, np.ones(IMAGES, bool)),
    )


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(cost_measurement, "sample_canvases", lambda model, dataset: [])
    monkeypatch.setattr(cost_measurement, "latency_ms", lambda model, samples: (10.0, 20.0))
    return types.SimpleNamespace(cost_ends=(100, 300), router_macs=1, calibration=None)


def test_results_are_merged_image_by_image(dataset, paths):
    evaluator = coco.CocoEvaluator(dataset)
    is_hard = paths.hard_at(0.2)
    for i in range(IMAGES):
        side = paths.late if is_hard[i] else paths.early
        evaluator.add([i], {name: values[i : i + 1] for name, values in side.items()})
    assert 0 < is_hard.sum() < IMAGES
    assert paths.metrics(is_hard) == evaluator.result()


def test_masks_are_measured_where_there_are_any(dataset, paths, model):
    """The first detector's boxes are right everywhere here, and its masks in half of the images."""
    corners = dataset.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    outlines = Outlines.from_segmentations([[list(map(float, x))] for x in corners])
    is_right = np.arange(IMAGES) % 2 == 0
    late = {**paths.late, "masks": np.ones((IMAGES, 1, 28, 28), np.float32)}
    early = {**late, "masks": late["masks"] * is_right[:, None, None, None]}
    pictured = dataclasses.replace(dataset, outlines=outlines)
    paths = dataclasses.replace(paths, dataset=pictured, early=early, late=late)
    curve = cascade_tradeoff.trade_off(model, paths, random_draws=1)["curve"]
    assert curve[0]["AP"] == pytest.approx(1)
    # Not quite 1: an outline's pixels are not those of its box.
    assert curve[5]["mask/AP"] == curve[10]["mask/AP"] > 0.7
    assert curve[0]["mask/AP"] < 0.6 * curve[10]["mask/AP"]
    assert "mask/AP/square" not in curve[0]
    assert "mask AP" in tradeoff.format_table({**RESULT, "curve": curve})


@pytest.mark.slow
def test_both_paths_of_a_cascade_with_masks_are_run(make_dynamic):
    dataset = tfdet.open_dataset("shapes:val").subset(6)
    names = dataset.class_names
    cascade = make_dynamic("dy-mask-rcnn-test", num_classes=len(names), class_names=names)
    paths = cascade_tradeoff.BothPaths(cascade, dataset, batch_size=4).run()
    assert paths.early["masks"].shape == paths.late["masks"].shape == (6, 100, 28, 28)
    assert np.isfinite(paths.gains).all() and len(set(paths.gains.tolist())) == 6
    assert 0 <= paths.metrics(paths.hard_at(0.5))["mask/AP"] <= 1


def test_a_good_router_surpasses_the_line_and_chance_does_not(model, paths):
    result = cascade_tradeoff.trade_off(model, paths, random_draws=4)
    curve = result["curve"]
    assert [row["share"] for row in curve] == pytest.approx(cascade_tradeoff.SHARES)
    assert [row["macs"] for row in curve] == pytest.approx([100 + 20 * i for i in range(11)])
    assert [row["latency_ms"] for row in curve] == pytest.approx([10 + i for i in range(11)])
    assert curve[5]["AP"] == curve[10]["AP"] == pytest.approx(1)
    assert curve[0]["AP"] < 0.3
    for row in curve[5:]:
        assert row["AP_oracle"] == pytest.approx(1)
        assert row["AP_random"] <= 1
    above = result["above_line"]
    assert above["router"] > 0.1
    assert above["router"] == pytest.approx(above["oracle"], abs=0.03)
    assert above["random"] < above["router"] - 0.1
    assert result["static"]["first"] == {"macs": 99, "AP": curve[0]["AP"]}
    assert result["static"]["second"]["macs"] == 299
    assert result["targets"] == {}


def test_targets_on_other_data_are_met_as_far_as_the_scores_agree(model, paths):
    random = np.random.default_rng(5)
    seen = paths.easiness[random.permutation(IMAGES)[:30]]
    table = Calibration.from_scores(seen, (100, 300), (10.0, 20.0))
    errors = cascade_tradeoff.target_errors(table, paths, (100, 300), (10.0, 20.0))
    assert set(errors) == {"target_madds", "target_latency_ms"}
    for rows in errors.values():
        assert len(rows) == 10
        for row in rows:
            assert row["share"] == share_at(paths.easiness, row["threshold"])
            assert abs(row["error"]) < 0.15
            assert row["reached"] == pytest.approx(row["target"] * (1 + row["error"]))


def test_the_figure_and_the_table_show_every_share(model, paths, tmp_path):
    result = cascade_tradeoff.trade_off(model, paths, random_draws=1)
    tradeoff_figure.draw(result, tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").size == (1210, 484)
    table = tradeoff.format_table(result)
    assert table.count(" %") == 11 and "router" in table


def test_labels_of_the_data_become_those_of_the_model():
    """Losses see the truth in the model's own order of classes."""
    seen = []

    def losses(truth, raw):
        seen.append(truth["labels"])
        return raw["easiness"], raw["easiness"]

    nothing = {
        "boxes": tf.zeros((2, 1, 4)),
        "scores": tf.zeros((2, 1)),
        "labels": tf.zeros((2, 1), tf.int32),
        "count": tf.zeros(2, tf.int32),
    }

    class Model:
        losses_of_paths = staticmethod(losses)
        decode_part = staticmethod(lambda role, raw: nothing)

        def __call__(self, images, training):
            return {"easiness": tf.zeros(2), "first": {}, "second": {}}

    # The model's classes 0, 1, 2 are the data's 1, none, 0.
    tf.config.run_functions_eagerly(True)
    try:
        cascade_tradeoff._compile(Model(), np.array([1, -1, 0]))(
            tf.zeros((2, 8, 8, 3)),
            {
                "boxes": tf.zeros((2, 3, 4)),
                "labels": tf.constant([[0, 1, -1], [1, 1, 0]]),
                "is_crowd": tf.zeros((2, 3), tf.bool),
                "scale": tf.ones(2),
                "size": tf.ones((2, 2), tf.int32),
            },
        )
    finally:
        tf.config.run_functions_eagerly(False)
    assert seen[0].numpy().tolist() == [[2, 0, -1], [0, 0, 2]]
