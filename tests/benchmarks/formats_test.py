import argparse

import keras
import numpy as np

from benchmarks import formats
from tfdet.data import sources


def test_a_cascade_without_its_router_finds_what_the_largest_effort_finds(tmp_path):
    options = argparse.Namespace(formats=[], int8_models=[], rounds=1)
    data = sources.open_dataset("shapes:val:1")
    found = {}
    for name in ("dy-yolov7-test", "dy-yolov7-test:unrouted"):
        keras.utils.set_random_seed(0)
        runs, problems = formats.prepare(name, tmp_path, data, options)
        assert not problems
        found[name] = runs[formats.Key(name, "saved_model", "float32", 1.0)]()
        assert (formats.Key(name, "saved_model", "float32", 0.0) in runs) == (":" not in name)
    routed, unrouted = found.values()
    assert routed["count"].min() > 0
    for key in ("boxes", "scores", "labels"):
        np.testing.assert_allclose(routed[key], unrouted[key], rtol=1e-5, atol=1e-5)
