"""PyTorch's files in both forms, written here and, where it is installed, by PyTorch itself."""

import collections
import pickle

import numpy as np
import pytest

from tests.weights import torch_files
from tests.weights.torch_files import BFloat16, Call, Name
from tfdet.errors import UserError
from tfdet.weights import reading

RANDOM = np.random.default_rng(0)
FLOATS = RANDOM.normal(size=(3, 4)).astype("float32")
TENSORS = {
    "float32": FLOATS,
    "float16": FLOATS.astype("float16"),
    "float64": FLOATS.astype("float64"),
    "int64": np.arange(5),
    "int32": np.arange(5, dtype="int32"),
    "bool": np.array([True, False]),
    "scalar": np.array(3),
    "empty": np.zeros((0, 3), "float32"),
}
SAVERS = {"zip": torch_files.save, "stream": torch_files.save_stream}


@pytest.mark.parametrize("form", SAVERS)
def test_both_forms_give_all_types(form, tmp_path):
    SAVERS[form](TENSORS, tmp_path / "x.pth")
    found = reading.open_weights(tmp_path / "x.pth").tensors
    assert list(found) == list(TENSORS)
    for name, wanted in TENSORS.items():
        assert (found[name].shape, found[name].dtype) == (wanted.shape, wanted.dtype.name)
        np.testing.assert_array_equal(found[name], wanted)


@pytest.mark.parametrize("form", SAVERS)
def test_bfloat16_is_read_as_float32(form, tmp_path):
    SAVERS[form]({"x": BFloat16(FLOATS)}, tmp_path / "x.pth")
    found = reading.open_weights(tmp_path / "x.pth").tensors["x"]
    assert found.dtype == "bfloat16"
    assert found.read().dtype == np.float32
    np.testing.assert_allclose(found, FLOATS, rtol=2**-7)


@pytest.mark.parametrize("form", SAVERS)
def test_modules_are_flattened_as_pytorch_names_them(form, tmp_path):
    conv = torch_files.module({"weight": FLOATS, "bias": None}, name=Name("torch.nn", "Conv2d"))
    norm = torch_files.module(
        buffers={"running_mean": FLOATS[0], "grid": FLOATS[1]},
        _non_persistent_buffers_set={"grid"},
    )
    block = torch_files.module(modules={"conv": conv, "bn": norm, "act": None})
    model = torch_files.module(modules={"0": block, "1": block}, yaml={"nc": 80})
    content = {"epoch": 3, "best_fitness": np.array([0.5]), "model": model, "ema": None}
    SAVERS[form](content, tmp_path / "x.pt")
    found = reading.open_weights(tmp_path / "x.pt")
    assert list(found.tensors) == [
        f"{i}.{name}" for i in (0, 1) for name in ("conv.weight", "bn.running_mean")
    ]
    assert found.part == "model"


def test_averages_are_preferred(tmp_path):
    model, ema = ({"w": np.full(2, value, "float32")} for value in (1.0, 2.0))
    for keys in (("model", "ema"), ("state_dict", "state_dict_ema"), ("model", "model_ema")):
        torch_files.save(dict(zip(keys, (model, ema), strict=True)), tmp_path / "x.pth")
        found = reading.open_weights(tmp_path / "x.pth")
        assert found.part == keys[1]
        np.testing.assert_array_equal(found.tensors["w"], [2, 2])


def test_wrappers_and_the_prefix_of_parallel_models_are_taken_off(tmp_path):
    content = {"meta": {"epoch": 1}, "state_dict": {"module.w": FLOATS}, "optimizer": {"lr": 0.1}}
    torch_files.save(content, tmp_path / "x.pth")
    assert list(reading.open_weights(tmp_path / "x.pth").tensors) == ["w"]


def test_tensors_share_storages(tmp_path):
    storages = torch_files.Storages()
    storages.tensor(np.arange(6, dtype="float32"))
    views = {
        "all": torch_files.rebuilt("0", (2, 3), 6),
        "end": torch_files.rebuilt("0", (2,), 6, offset=4),
    }
    turned = torch_files.rebuilt("0", (3, 2), 6)
    turned.args = (*turned.args[:3], (1, 3), *turned.args[4:])
    content = torch_files.dumps({**views, "turned": turned})
    torch_files.write_zip(tmp_path / "x.pth", content, storages.content)
    found = reading.open_weights(tmp_path / "x.pth").tensors
    np.testing.assert_array_equal(found["end"], [4, 5])
    np.testing.assert_array_equal(found["turned"], np.arange(6).reshape(2, 3).T)


def test_files_of_the_other_byte_order(tmp_path):
    import zipfile

    storages = torch_files.Storages()
    pickled = torch_files.dumps({"x": storages.tensor(FLOATS)})
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/byteorder", "big")
        archive.writestr("a/data/0", FLOATS.astype(">f4").tobytes())
    np.testing.assert_array_equal(reading.open_weights(tmp_path / "x.pth").tensors["x"], FLOATS)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_numpy_arrays(protocol, tmp_path):
    blobs = {
        "conv1_w": FLOATS,
        "turned": np.asfortranarray(FLOATS),
        "other_order": np.arange(3, dtype=">i4"),
        "float16": FLOATS.astype("float16"),
    }
    with open(tmp_path / "x.pkl", "wb") as file:
        content = {"blobs": {**blobs, "names": np.array(["a"])}, "cfg": np.float64(1.0)}
        pickle.dump(content, file, protocol)
    found = reading.open_weights(tmp_path / "x.pkl")
    assert (found.part, found.tensors.keys()) == ("blobs", blobs.keys())
    for name, wanted in blobs.items():
        np.testing.assert_array_equal(found.tensors[name], wanted)


def test_nothing_in_a_file_is_executed(tmp_path):
    witness = tmp_path / "witness"
    attack = Call(Name("os", "system"), (f"touch {witness}",))
    for saver in SAVERS.values():
        saver({"w": FLOATS, "more": attack}, tmp_path / "x.pth")
        assert list(reading.open_weights(tmp_path / "x.pth").tensors) == ["w"]
    assert not witness.exists()


def test_a_claim_of_more_than_there_is_is_refused(tmp_path):
    storages = torch_files.Storages()
    storages.tensor(np.zeros(4, "float32"))
    for shape, count, says in (
        ((10**6, 10**6), 4, "claims 1000000000000 values, more than its storage of 4"),
        ((10**6, 10**6), 10**12, "its storage '0' claims 1000000000000 values"),
        ((5,), 4, "claims 5 values"),
    ):
        content = torch_files.dumps({"x": torch_files.rebuilt("0", shape, count)})
        torch_files.write_zip(tmp_path / "x.pth", content, storages.content)
        with pytest.raises(UserError, match=says):
            reading.open_weights(tmp_path / "x.pth")


def test_real_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    wanted = {name: value.numpy() for name, value in model.state_dict().items()}
    half = torch.nn.Sequential(collections.OrderedDict(a=torch.nn.Linear(2, 3))).bfloat16()
    for is_zip in (True, False):
        for number, content in enumerate((model.state_dict(), {"model": model, "ema": None})):
            path = tmp_path / f"{is_zip}{number}.pth"
            torch.save(content, path, _use_new_zipfile_serialization=is_zip)
            found = reading.open_weights(path).tensors
            assert list(found) == list(wanted)
            for name, value in wanted.items():
                np.testing.assert_array_equal(found[name], value)
        torch.save(half, tmp_path / "half.pth", _use_new_zipfile_serialization=is_zip)
        found = reading.open_weights(tmp_path / "half.pth").tensors
        np.testing.assert_array_equal(found["a.weight"], half.a.weight.detach().float().numpy())


def test_files_written_here_are_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    for saver in SAVERS.values():
        saver({"w": FLOATS, "h": BFloat16(FLOATS)}, tmp_path / "x.pth")
        found = torch.load(tmp_path / "x.pth", weights_only=True)
        np.testing.assert_array_equal(found["w"].numpy(), FLOATS)
        assert found["h"].dtype == torch.bfloat16
