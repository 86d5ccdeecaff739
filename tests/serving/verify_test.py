"""Tests of what the proof of an export looks at; that it fails where it must: export_test.py."""

from tfdet.serving import verify


def test_probes_hold_an_empty_and_a_crowded_scene_of_odd_sizes():
    batches = verify.image_batches((64, 64))
    assert not batches["batch of 1"].any()
    assert batches["batch of 3"].std() > 30
    assert {batch.shape[0] for batch in batches.values()} == {1, 3}
    sizes = {image.shape for image in verify.encoded_batches((64, 64))["batch of 3"]}
    assert len(sizes) == 3
