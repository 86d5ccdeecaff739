import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from tfdet import registry
from tfdet.cli import train
from tfdet.errors import UserError
from tfdet.training import distribution
from tfdet.weights import stored

STEPS_PER_EPOCH = 6
HPARAMS = (
    "model.name=efficientdet-test,model.max_level=5,model.batch_norm=synchronized,"
    "train.batch_size=4,train.num_epochs=2,train.warmup_epochs=0.5,"
    "eval.interval=1,eval.batch_size=4,eval.pictures=2"
)
# Two CPU devices can only be asked for before TensorFlow starts, hence a program of its own.
PROGRAM = """
import sys
import keras
import tensorflow as tf
from tfdet.cli import train

devices = int(sys.argv[1])
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # as in conftest.py
keras.config.disable_traceback_filtering()
tf.debugging.disable_traceback_filtering()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
sys.exit(train.COMMAND.run(train.main, sys.argv[2:]))
"""


def flags(model_dir, strategy="", hparams=HPARAMS, mode="traineval"):
    return [
        *(f"--hparams={hparams}", f"--data=shapes:train:{4 * STEPS_PER_EPOCH}"),
        *(f"--mode={mode}", f"--model_dir={model_dir}", f"--strategy={strategy}"),
        *(["--val_data=shapes:val:4"] if mode == "traineval" else []),
    ]


def start(model_dir, devices=1, strategy="", cluster=None, hparams=HPARAMS, mode="traineval"):
    environment = {**os.environ, **({"TF_CONFIG": json.dumps(cluster)} if cluster else {})}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(devices), *flags(model_dir, strategy, hparams, mode)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, out + err
    return out


def kill_after_first_epoch(model_dir, processes):
    while not list((model_dir / "state").glob("[0-9]*.npz")):
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def history(model_dir):
    with open(model_dir / "logs" / "history.csv") as file:
        return list(csv.DictReader(file))


def assert_same_course(rows, expected):
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row, wanted in zip(rows, expected, strict=True):
        for key in ("loss", "class_loss", "box_loss", "l2_loss", "learning_rate"):
            assert float(row[key]) == pytest.approx(float(wanted[key]), abs=1e-4), key
        assert float(row["gradient_norm"]) == pytest.approx(
            float(wanted["gradient_norm"]), rel=1e-3
        )


def assert_same_measured_course(rows, expected):
    assert_same_course(rows, expected)
    assert all(row["AP"] != "" for row in rows)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("one_process")
    assert train.COMMAND.run(train.main, flags(model_dir)) == 0
    return history(model_dir)


def test_two_replicas_equal_one(tmp_path):
    """In training alone; what they measure is compared below."""
    assert train.COMMAND.run(train.main, flags(tmp_path / "one", mode="train")) == 0
    said = finish(start(tmp_path / "two", devices=2, strategy="mirrored", mode="train"))
    assert "running on 2 CPU devices" in said
    assert_same_course(history(tmp_path / "two"), history(tmp_path / "one"))


@pytest.mark.slow
def test_two_replicas_equal_one_also_when_killed_between(tmp_path, one_process):
    kill_after_first_epoch(tmp_path, [start(tmp_path, devices=2, strategy="mirrored")])
    out = finish(start(tmp_path, devices=2, strategy="mirrored"))
    assert "resuming at step" in out
    assert_same_measured_course(history(tmp_path), one_process)


def free_ports(count):
    with_sockets = [socket.socket() for _ in range(count)]
    for held in with_sockets:
        held.bind(("127.0.0.1", 0))
    ports = [held.getsockname()[1] for held in with_sockets]
    for held in with_sockets:
        held.close()
    return ports


def start_workers(model_dir):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    return [
        start(
            model_dir,
            strategy="multi_worker",
            cluster={"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]


@pytest.mark.slow
def test_two_workers_equal_one_also_when_killed_between(tmp_path, one_process):
    kill_after_first_epoch(tmp_path, start_workers(tmp_path))
    chief, other = start_workers(tmp_path)
    assert "resuming at step" in finish(chief)
    assert finish(other) == ""
    assert_same_measured_course(history(tmp_path), one_process)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["epoch_0001.jpg", "epoch_0002.jpg"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    ],
)
def test_a_missing_or_wrong_cluster_is_explained(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="expected TF_CONFIG="):
        distribution.make_strategy("multi_worker")


def test_an_uneven_batch_is_refused():
    class Three:
        num_replicas_in_sync = 3

    distribution.check_batch_size(Three(), 6)
    with pytest.raises(UserError, match="batch size 4 cannot be shared by 3 replicas"):
        distribution.check_batch_size(Three(), 4)


ROUTER_HPARAMS = (
    "model.name=dy-efficientdet-test,model.step=router,model.weight_decay=0.0,"
    "train.batch_size=4,train.num_epochs=1,train.optimizer=adamw,train.learning_rate=0.01,"
    "train.learning_rate_batch=0,train.warmup_epochs=0.5,train.ema_decay=0"
)


@pytest.mark.slow
def test_two_devices_teach_a_router_what_one_does(tmp_path):
    rows, pretrained = {}, tmp_path / "joint.weights.h5"
    stored.save(registry.create("dy-efficientdet-test", num_classes=5), pretrained)
    hparams = f"{ROUTER_HPARAMS},train.pretrained={pretrained}"
    for devices, strategy in ((1, ""), (2, "mirrored")):
        folder = tmp_path / str(devices)
        finish(start(folder, devices, strategy, hparams=hparams, mode="train"))
        (rows[devices],) = history(folder)
    for key in ("router_loss", "easiness", "offset", "first_loss", "second_loss"):
        assert float(rows[2][key]) == pytest.approx(float(rows[1][key]), rel=1e-3), key


# One measurement: by one process, by two replicas, or by two workers of different weights; of a
# data set with an image, in the middle of a batch, that nobody can read.
MEASUREMENT = """
import dataclasses, hashlib, json, sys
import tensorflow as tf

kind, name, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
tf.config.threading.set_intra_op_parallelism_threads(1)
if kind == "mirrored":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import tfdet
from tfdet.evaluation import coco
from tfdet.training import distribution

strategy = distribution.make_strategy(kind)
data = tfdet.open_dataset("shapes:val:11")
render = lambda i: b"no image" if i == data.image_ids[4] else data.render(i)
broken = dataclasses.replace(data, render=render)
with distribution.scope(strategy):
    keras.utils.set_random_seed(0)
    model = tfdet.create(name, num_classes=5, class_names=data.class_names)
    if index:
        model.weights[-1].assign(model.weights[-1] + 1.0)
    share = distribution.sharing_of(strategy)
    evaluation = coco.Evaluation(model, broken, 3, share)
    evaluator = evaluation.run()
facts = [evaluator.result(), evaluator.detections(), evaluation.costs, evaluator.num_left_out]
digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
print(json.dumps([digest, facts[-1], len(facts[1]), share.shard[1], share.replicas]))
distribution.wait_for_each_other(strategy)
distribution.hush_end(kind)
"""


def measure(kind, name, cluster=None, index=0):
    environment = {**os.environ, **({"TF_CONFIG": json.dumps(cluster)} if cluster else {})}
    return subprocess.Popen(
        [sys.executable, "-c", MEASUREMENT, kind, name, str(index)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def measure_by_workers(name):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    cluster = {"cluster": {"worker": workers}}
    return [
        measure(
            "multi_worker", name, {**cluster, "task": {"type": "worker", "index": index}}, index
        )
        for index in range(2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientdet-test", "dy-yolov7-test"])
def test_measurements_that_are_shared_have_the_bits_of_one_process(name):
    processes = [measure("", name), measure("mirrored", name), *measure_by_workers(name)]
    alone, mirrored, *workers = (json.loads(finish(process)) for process in processes)
    digest, left_out, detections, *shared = alone
    assert (left_out, shared) == (1, [1, 1])
    assert detections
    assert mirrored == [digest, 1, detections, 1, 2]
    assert workers == [[digest, 1, detections, 2, 1]] * 2


def test_the_devices_are_named():
    words = distribution.devices(None)
    assert words == f"the CPU ({os.cpu_count()} cores)" or words.startswith("one GPU (")
    # Who asks for several devices, and has one, would not notice otherwise.
    alone = tf.distribute.MirroredStrategy([tf.config.list_logical_devices()[-1].name])
    assert distribution.devices(alone) == f"{words}, the only device that TensorFlow finds"
