import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.weights import state_dict
from tfdet.weights.lazy import LazyTensor
from tfdet.weights.pickles import Record


def tensor():
    return LazyTensor((2,), "float32", lambda: np.zeros(2, np.float32))


def module(**modules):
    record = Record("torch.nn.Module")
    record.state = {"_parameters": {"w": tensor()}, "_buffers": {}, "_modules": modules}
    return record


def test_a_wrapper_without_tensors_is_passed_over():
    found = state_dict.find({"ema": {"decay": 0.9}, "model": {"w": tensor()}})
    assert (list(found.tensors), found.part) == (["w"], "model")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_wrappers_of_parallel_and_compiled_models_are_taken_off(prefix):
    found = state_dict.find({f"{prefix}a.w": tensor(), f"{prefix}b.w": tensor()})
    assert list(found.tensors) == ["a.w", "b.w"]
    found = state_dict.find({f"{prefix}a.w": tensor(), "b.w": tensor()})
    assert list(found.tensors) == [f"{prefix}a.w", "b.w"]


def test_an_object_that_holds_a_module_is_a_wrapper():
    holder = Record("utils.ModelEMA")
    holder.state = {"ema": module(), "updates": 3}
    found = state_dict.find({"ema": holder})
    assert (list(found.tensors), found.part) == (["w"], "ema.ema")


def test_modules_without_end_are_refused():
    inner = module()
    inner.state["_modules"]["again"] = inner
    with pytest.raises(UserError, match="nested without end"):
        state_dict.find(inner)
    wide = module()
    for _ in range(60):  # each stands twice in the next: 2**60 names
        wide = module(a=wide, b=wide)
    with pytest.raises(UserError, match=r"nested without end|more tensors"):
        state_dict.find(wide)
    long = module(**{"x" * 2000: module()})
    with pytest.raises(UserError, match="nested without end"):
        state_dict.find(long)


def test_what_holds_no_tensors_is_described():
    with pytest.raises(UserError, match="its keys are a, b"):
        state_dict.find({"a": 1, "b": {"c": tensor()}})
    with pytest.raises(UserError, match="it is a list"):
        state_dict.find([tensor()])
    with pytest.raises(UserError, match=r"it is a os\.system"):
        state_dict.find(Record("os.system", ("x",)))
