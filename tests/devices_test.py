import os

import tensorflow as tf

from tfdet import devices


def test_the_processor_is_named_with_its_cores(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert devices.in_use() == f"the CPU ({os.cpu_count()} cores)"


def test_a_gpu_is_named_and_others_are_counted(monkeypatch):
    details = {"device_name": "NVIDIA H200"}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    for gpus, words in (([1], "one GPU (NVIDIA H200)"), ([1, 2], "H200, the first of 2)")):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind, gpus=gpus: gpus)
        assert devices.in_use().endswith(words)
