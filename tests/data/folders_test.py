import numpy as np
import pytest
from PIL import Image

from tfdet.data import folders
from tfdet.errors import UserError


@pytest.fixture
def tree(tmp_path):
    for name, files in {"bee": ["1.jpg", "2.PNG", "notes.txt"], "ant": ["0.jpg"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            Image.new("RGB", (8, 6)).save(tmp_path / name / file, "PNG")
    return str(tmp_path)


def test_folders_are_classes_in_the_order_of_their_names(tree):
    dataset = folders.open_folders(tree)
    assert dataset.class_names == ("ant", "bee")
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.names.tolist() == ["ant/0.jpg", "bee/1.jpg", "bee/2.PNG"]
    np.testing.assert_array_equal(dataset.box_offsets, np.arange(4))


def test_given_classes_keep_their_labels_and_may_be_without_images(tree):
    dataset = folders.open_folders(tree, ("cat", "bee", "ant"))
    assert dataset.labels.tolist() == [1, 1, 2]


def test_a_folder_that_is_no_class_and_an_empty_tree_are_refused(tree, tmp_path):
    with pytest.raises(UserError, match="a folder 'ant', which is no class"):
        folders.open_folders(tree, ("bee",))
    (tmp_path / "new").mkdir()
    with pytest.raises(UserError, match="no folder with images"):
        folders.open_folders(str(tmp_path / "new"))
