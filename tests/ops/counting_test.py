import keras

from tfdet.ops import counting


def test_transposed_convolutions_work_at_every_input():
    layer = keras.layers.Conv2DTranspose(5, 2, strides=2)
    done = counting.operations(layer, (1, 7, 6, 3), (1, 14, 12, 5))
    assert done.macs == 7 * 6 * 3 * 5 * 4
    assert done.mmdet_flops == done.macs + 14 * 12 * 5
