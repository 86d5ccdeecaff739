"""Records as other projects write them."""

import tensorflow as tf


def example(
    encoded: bytes, name: bytes, height=(40,), width=(60,), label=(1,), text=(b"cat",)
) -> bytes:
    """A serialised record of an image with one box."""
    features = {
        "encoded": [encoded],
        "filename": [name],
        "source_id": [name],
        "height": height,
        "width": width,
        "object/bbox/xmin": [0.1],
        "object/bbox/ymin": [0.2],
        "object/bbox/xmax": [0.5],
        "object/bbox/ymax": [0.9],
        "object/class/label": label,
        "object/class/text": text,
    }
    feature = {f"image/{key}": _feature(values) for key, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _feature(values) -> tf.train.Feature:
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
