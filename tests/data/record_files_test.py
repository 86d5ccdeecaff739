import pytest
import tensorflow as tf

from tfdet.data import record_files
from tfdet.data.problems import Problems


@pytest.fixture
def file(tmp_path):
    """Three records of 10, 20 and 30 bytes."""
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for k in (1, 2, 3):
            writer.write(bytes([k]) * 10 * k)
    return path


def _damage(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_records_are_found_where_they_lie(file):
    problems = Problems()
    found = list(record_files.records(str(file), problems))
    assert found == [(12, b"\1" * 10), (38, b"\2" * 20), (74, b"\3" * 30)]
    record_files.compare_checksums(str(file), problems)
    assert problems.counts == {}


def test_a_damaged_length_ends_its_file(file):
    _damage(file, 26)
    problems = Problems()
    assert len(list(record_files.records(str(file), problems))) == 1
    assert problems.examples == {"damaged_record": [f"{file} at byte 26"]}


@pytest.mark.parametrize(("place", "start"), [(15, 12), (40, 38), (59, 38)])
def test_a_damaged_record_is_found_by_its_checksum(file, place, start):
    _damage(file, place)
    problems = Problems()
    assert len(list(record_files.records(str(file), problems))) == 3
    record_files.compare_checksums(str(file), problems)
    assert problems.examples == {"record_checksum": [f"{file} at byte {start}"]}


def test_an_early_end_is_counted_once(file):
    file.write_bytes(file.read_bytes()[:-5])
    problems = Problems()
    assert len(list(record_files.records(str(file), problems))) == 2
    record_files.compare_checksums(str(file), problems)
    assert problems.counts == {"truncated_record": 1}


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (["x-00000-of-00002.tfrecord", "x-00001-of-00002.tfrecord"], {}),
        (["x-00000-of-00003.tfrecord", "x-00002-of-00003.tfrecord"], {"x-00001": 1}),
        (["x-00003-of-00004", "y-00000-of-00001"], {"x-00000": 3}),
        (["x.tfrecord", "y.tfrecord"], {}),
        (["x-00000-of-999999999"], {"x-00001": 999999998}),
    ],
)
def test_files_that_a_series_lacks_are_counted(files, missing):
    problems = Problems()
    record_files.report_missing(files, problems)
    assert problems.counts.get("missing_shard", 0) == sum(missing.values())
    examples = problems.examples.get("missing_shard", [])
    assert [name.partition("-of-")[0] for name in examples] == list(missing)
