import numpy as np
import pytest
from PIL import Image

import tfdet
from tfdet.errors import UserError


@pytest.fixture(scope="module")
def model():
    return tfdet.create("fcos-test")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, size in (("a", (40, 60)), ("b", (40, 60)), ("c", (30, 30))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "text.jpg").write_text("no image")
    return folder


def test_a_file_an_image_and_a_batch_of_one_are_detected_alike(model, files):
    image = np.asarray(Image.open(files / "a.png"))
    expected = model.predict(image[None], verbose=0)
    for x in (str(files / "a.png"), files / "a.png", [files / "a.png"], image):
        found = model.predict(x, verbose=0)
        assert found["boxes"].shape[0] == 1
        np.testing.assert_array_equal(found["boxes"], expected["boxes"])


def test_files_of_one_size_are_a_batch(model, files):
    found = model.predict([files / "a.png", files / "b.png"], verbose=0)
    assert found["boxes"].shape[0] == 2


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("nothing.jpg", "'.*nothing.jpg' is not there"),
        ("", "is a folder; use tfdet-infer"),
        ("text.jpg", "text.jpg cannot be used as an image"),
        (["a.png", "c.png"], "a.png has 60 x 40 and .*c.png has 30 x 30 pixels"),
    ],
)
def test_what_is_no_image_is_named(model, files, names, message):
    x = [files / name for name in names] if isinstance(names, list) else files / names
    with pytest.raises(UserError, match=message):
        model.predict(x)
