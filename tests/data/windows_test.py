import numpy as np
import pytest
import tensorflow as tf

from tfdet.data import storage, windows
from tfdet.data.augment import AugmentConfig
from tfdet.data.convert import convert
from tfdet.data.pipeline import train_batches
from tfdet.data.sources import open_dataset
from tfdet.errors import UserError

COUNT = 40


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Forty pictures in four files."""
    prefix = tmp_path_factory.mktemp("records") / "r"
    convert(open_dataset(f"shapes:val:{COUNT}"), str(prefix), 4)
    return open_dataset(f"tfrecord:{prefix}-*")


@pytest.fixture(params=[1, 40, 300], ids="{} kB".format)
def window(request):
    return request.param << 10


def _stream(order, steps, shard=(0, 1), batch=8):
    return np.concatenate([order.positions(batch, 5, step, shard)[0] for step in steps])


def test_every_epoch_shows_every_image_once(records, window):
    stream = _stream(windows.WindowOrder(records, window), range(10)).reshape(2, COUNT)
    np.testing.assert_array_equal(np.sort(stream), [np.arange(COUNT)] * 2)
    assert not np.array_equal(*stream)


def test_images_are_mixed_within_windows_of_pieces(records, monkeypatch):
    monkeypatch.setattr(windows, "_PIECES", 3)
    order = windows.WindowOrder(records, int(records.spans[:, 1].sum()) // 4)
    pieces = order.piece_of_image[_stream(order, range(5))]
    _, firsts = np.unique(pieces, return_index=True)
    in_order = pieces[np.sort(firsts)]
    assert len(in_order) == len(order.pieces) >= 12
    numbers = np.argsort(in_order)[pieces] // 3  # of windows, if nothing of the next comes before
    assert (np.diff(numbers) >= 0).all()
    assert (np.diff(pieces) != 0).sum() > len(order.pieces)


def test_workers_have_files_of_their_own(records, window):
    order = windows.WindowOrder(records, window)
    parts = [_stream(order, range(10), (index, 2)) for index in range(2)]
    files = [set(records.files[part]) for part in parts]
    assert len(files[0]) == len(files[1]) == 2 and not files[0] & files[1]
    assert set(np.concatenate(parts)) == set(range(COUNT))


def test_more_workers_than_files_are_refused(records):
    with pytest.raises(UserError, match="has 4 files, fewer than the 5 workers"):
        windows.WindowOrder(records, 1000).positions(5, 0, 0, (0, 5))


def test_bytes_are_those_of_the_files_and_each_piece_is_read_once(records, window, monkeypatch):
    read = []
    open_to_read = storage.open_to_read
    monkeypatch.setattr(
        storage, "open_to_read", lambda path: (read.append(path), open_to_read(path))[1]
    )
    order = windows.WindowOrder(records, window)
    reader = windows.WindowReader(order)
    images = _stream(order, range(5))
    found = [reader.encoded(int(i)) for i in images]
    assert len(read) == len(order.pieces)
    assert found == [records.encoded(int(i)) for i in images]


def test_a_run_that_goes_on_has_the_same_bits(records):
    def batches(start, count):
        made = train_batches(records, (32, 32), 8, seed=3, start_step=start, window_bytes=40 << 10)
        return tf.nest.flatten(list(made.take(count)))

    whole, rest = batches(0, 7), batches(4, 3)
    for a, b in zip(whole[-len(rest) :], rest, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "augment",
    [AugmentConfig(mosaic=0.5), AugmentConfig(geometry="affine", mixup=0.1)],
    ids=["mosaic", "mixup"],
)
def test_what_joins_images_is_refused(records, augment):
    with pytest.raises(UserError, match=r"joins images of the whole data set"):
        train_batches(records, (32, 32), 4, augment, window_bytes=1000)


def test_single_files_are_refused():
    with pytest.raises(UserError, match=r"data\.window_mb is for TFRecord files"):
        train_batches(open_dataset("shapes:val:4"), (32, 32), 4, window_bytes=1000)
