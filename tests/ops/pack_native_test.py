import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tests.ops import pack_cases
from tfdet.ops import pack as pack_ops
from tfdet.ops import pack_native


@pytest.fixture
def unloaded():
    """As in a new process: nothing has been tried yet."""
    pack_native._load.cache_clear()
    pack_native._is_loaded.cache_clear()
    yield
    pack_native._load.cache_clear()
    pack_native._is_loaded.cache_clear()


def _case():
    layout = pack_ops.layout(pack_cases.level_sizes(64, 64), 4)
    return layout, pack_cases.random_maps(layout)


def _op_types(function):
    graph = function.get_concrete_function().graph
    return {op.type for op in graph.get_operations()}


def _tracing():
    layout, maps = _case()
    return tf.function(
        lambda: pack_ops.unpack(pack_ops.pack(maps, layout), layout), autograph=False
    )


def test_the_variable_chooses_the_form(monkeypatch):
    pack_cases.require_native()
    monkeypatch.setenv("TFDET_PACK", "native")
    assert {"TfdetPack", "TfdetUnpack"} <= _op_types(_tracing())
    monkeypatch.setenv("TFDET_PACK", "portable")
    assert not pack_ops.native_is_available()
    assert not any(name.startswith("Tfdet") for name in _op_types(_tracing()))
    monkeypatch.setenv("TFDET_PACK", "fast")
    with pytest.raises(ValueError, match="TFDET_PACK is portable, native or not set, got 'fast'"):
        pack_ops.native_is_available()


def test_a_block_keeps_the_native_op_out_of_graphs(monkeypatch):
    pack_cases.require_native()
    monkeypatch.delenv("TFDET_PACK", raising=False)
    with pack_ops.only_portable():
        assert not any(name.startswith("Tfdet") for name in _op_types(_tracing()))
    assert "TfdetPack" in _op_types(_tracing())


@pytest.mark.parametrize(
    ("content", "cause"), [(None, "is not there"), (b"no library", "cannot be loaded")]
)
def test_without_a_library_packing_works_and_says_so_once(
    unloaded, tmp_path, monkeypatch, content, cause
):
    path = tmp_path / "libtfdet_pack.so"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("TFDET_PACK_LIBRARY", str(path))
    monkeypatch.delenv("TFDET_PACK", raising=False)
    layout, maps = _case()
    with pytest.warns(RuntimeWarning, match=f"{cause}.*pip install.*TFDET_PACK=portable"):
        packed = pack_ops.pack(maps, layout)
    pack_cases.assert_same_bits(packed, pack_cases.slowly_packed(maps, layout))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack_ops.pack(maps, layout)
    monkeypatch.setenv("TFDET_PACK", "native")
    with pytest.raises(ImportError, match=cause):
        pack_ops.pack(maps, layout)


def test_other_dtypes_take_the_portable_form(monkeypatch):
    monkeypatch.delenv("TFDET_PACK", raising=False)
    layout, maps = _case()
    maps = [tf.cast(x * 9, "int32") for x in maps]
    packed = pack_ops.pack(maps, layout)
    pack_cases.assert_same_bits(packed, pack_cases.slowly_packed(maps, layout))


_SERVE = """
import json, sys
import tensorflow as tf
if sys.argv[2]:
    tf.load_op_library(sys.argv[2])
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
assert "tfdet" not in sys.modules
batch = tf.reshape(tf.range(2.0 * 64), (2, 8, 8, 1))
print("RESULT", json.dumps(serve(batch)["packed"].numpy().tolist()))
"""


@pytest.mark.parametrize("form", ["native", "portable"])
def test_a_saved_model_packs_in_a_process_without_tfdet(form, tmp_path, monkeypatch):
    if form == "native":
        pack_cases.require_native()
    monkeypatch.setenv("TFDET_PACK", form)

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1))], autograph=False)
    def serve(x):
        maps = [x[:, :side, :side] for side in (8, 4, 2, 1, 1)]
        return {"packed": pack_ops.pack(maps, 3)}

    tf.saved_model.save(tf.Module(), tmp_path, signatures=serve)
    library = str(pack_native.library_path()) if form == "native" else ""
    done = subprocess.run(
        [sys.executable, "-c", _SERVE, str(tmp_path), library], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.split("RESULT")[1])
    expected = serve(tf.reshape(tf.range(2.0 * 64), (2, 8, 8, 1)))["packed"]
    np.testing.assert_array_equal(found, expected)


def test_keras_is_told_that_xla_cannot_compile_the_native_op(monkeypatch):
    from tfdet.heads.packed import PackedStack, PackingConfig
    from tfdet.layers.pack import Pack

    pack_cases.require_native()
    for make in (lambda: Pack(4), lambda: PackedStack(PackingConfig())):
        monkeypatch.setenv("TFDET_PACK", "native")
        assert not make().supports_jit
        monkeypatch.setenv("TFDET_PACK", "portable")
        assert make().supports_jit
