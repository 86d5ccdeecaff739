import numpy as np

from tfdet import registry
from tfdet.training import latency


def test_larger_images_take_longer():
    took = []
    for size in ((64, 64), (256, 256)):
        model = registry.create("fcos-test", image_size=size)
        took.append(latency.milliseconds(model, [np.zeros((1, *size, 3), np.uint8)]))
    assert 0 < took[0] < took[1]
