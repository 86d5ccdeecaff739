"""What TensorFlow computes on, in words for the first lines of a command."""

import os


def in_use() -> str:
    """ "the CPU (2 cores)", or "one GPU (NVIDIA H200)": what work without a strategy runs on."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"the CPU ({os.cpu_count()} cores)"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"one GPU ({name}{f', the first of {len(gpus)}' if len(gpus) > 1 else ''})"
