"""Tests of the proof: it must fail where the export is not the model's."""

import dataclasses

from tfdet.serving import verify


def test_export_of_another_model_is_noticed(exported, make_model):
    other = make_model(seed=5)
    other.config = dataclasses.replace(other.config, class_ids=(1, 2, 4))
    sentences = verify.verify(other, exported[0]).mismatches
    assert sentences[0].startswith("metadata should be {")
    assert "'class_ids': (1, 2, 4)" in sentences[0]
    for name in ("serving_default, batch of 1", "serving_default, batch of 3", "serving_encoded"):
        assert any(sentence.startswith(name) for sentence in sentences), name


def test_probes_hold_an_empty_and_a_crowded_scene_of_odd_sizes():
    batches = verify.image_batches((64, 64))
    assert not batches["batch of 1"].any()
    assert batches["batch of 3"].std() > 30
    assert {batch.shape[0] for batch in batches.values()} == {1, 3}
    sizes = {image.shape for image in verify.encoded_batches((64, 64))["batch of 3"]}
    assert len(sizes) == 3
