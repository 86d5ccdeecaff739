"""A small detector with lively weights, and its export, shared by the tests of serving."""

import numpy as np
import pytest

import tfdet


def _make_model(seed=0, spread=1.5, **overrides):
    """A tiny EfficientDet whose scores and boxes spread as those of a trained one do."""
    own = {
        "num_classes": 3,
        "class_names": ("disc", "größe", "star"),
        "class_ids": (3, 7, 90),
        "max_level": 5,
    }
    model = tfdet.create("efficientdet-test", **{**own, **overrides})
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.6, 1.6, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(random.normal(0, 0.3, variable.shape))
    noise = random.uniform(0, 255, (1, *model.image_size, 3)).astype(np.float32)
    raw = model(noise, training=False)
    for name, wanted in (("class", spread), ("box", 0.3)):
        output = raw["class_logits" if name == "class" else "box_codes"]
        (kernel,) = (
            v for v in model.weights if v.path.endswith(f"{name}-predict/pointwise_kernel")
        )
        kernel.assign(np.asarray(kernel) * wanted / np.std(output))
    return model


@pytest.fixture(scope="session")
def make_model():
    return _make_model


@pytest.fixture(scope="session")
def model():
    return _make_model()


@pytest.fixture(scope="session")
def exported(model, tmp_path_factory):
    """Folder of the exported model, and the difference that its check found."""
    path = tmp_path_factory.mktemp("export") / "saved_model"
    return path, tfdet.export(model, path)
