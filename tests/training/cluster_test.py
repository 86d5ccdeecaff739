import concurrent.futures
import json
import socket
import threading

import pytest

from tfdet.errors import UserError
from tfdet.training import cluster


def text(workers=("a:1", "b:2"), index=0, kind="worker", **jobs):
    return json.dumps(
        {"cluster": {"worker": workers, **jobs}, "task": {"type": kind, "index": index}}
    )


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def local(ports, index=0):
    return cluster.Cluster(tuple(("localhost", port) for port in ports), index)


def test_a_cluster_is_read():
    assert cluster.read(text(["host-1:2222", "[::1]:80"], 1)) == cluster.Cluster(
        (("host-1", 2222), ("::1", 80)), 1
    )


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("", "no valid cluster"),
        ("{", "no valid cluster"),
        ("[" * 100_000, "no valid cluster"),
        ("[]", "no valid cluster"),
        ('{"cluster": {"worker": ["a:1"]}}', "no valid cluster"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {}}', "no valid cluster"),
        (text(index="x"), "task index 'x' is not one of the 2 workers"),
        (text(index=2), "task index 2 is not one of the 2 workers"),
        (text(index=-1), "task index -1 is not"),
        (text(index=True), "task index True is not"),
        (text("a:1"), "must be a list, got 'a:1'"),
        (text([]), r"must be a list, got \[\]"),
        (text([5]), "5 in TF_CONFIG is no address"),
        (text(["host"]), "'host' in TF_CONFIG is no address"),
        (text(["host:"]), "'host:' in TF_CONFIG is no address"),
        (text(["host:70000"]), "'host:70000' in TF_CONFIG is no address"),
        (text(["a:1", "a:1"]), "has an address twice: a:1, a:1"),
        (text(kind="chief"), "may have workers only"),
        (text(chief=["c:1"]), "may have workers only"),
    ],
)
def test_B20_damage_is_a_sentence_that_shows_what_is_wanted(damaged, message):
    with pytest.raises(UserError, match=rf"{message}.*expected TF_CONFIG="):
        cluster.read(damaged)


def test_workers_wait_for_each_other():
    ports, all_through = free_ports(3), threading.Barrier(3)

    def work(index):
        cluster.wait_for_all(local(ports, index), 30.0)
        with socket.create_server(("", ports[index])):  # as TensorFlow from then on
            all_through.wait(30.0)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        ends = [end.exception() for end in [pool.submit(work, i) for i in range(3)]]
    assert ends == [None] * 3


def test_B3_a_worker_that_is_not_there_is_named_until_the_time_is_over():
    ports, said = free_ports(2), []
    with pytest.raises(UserError, match=rf"no answer within 2 s from localhost:{ports[1]} \(") as e:
        cluster.wait_for_all(local(ports), 2.0, said.append)
    assert "--connect_seconds" in str(e.value)
    assert said and said[0].startswith(f"waiting for localhost:{ports[1]} (")


def test_B20_an_own_port_that_is_in_use_is_a_sentence():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}, this worker's own .* another program"):
            cluster.wait_for_all(local([port, *free_ports(1)]), 1.0)
