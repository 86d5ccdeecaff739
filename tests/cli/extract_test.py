"""`tfdet-extract`: what it writes is a training folder like any other."""

import pytest

from tfdet import config, registry
from tfdet.backbones.encoding import super_encoding
from tfdet.training import trained
from tfdet.weights import stored

FULL = super_encoding((2, 2, 2, 2), stem=8)


@pytest.fixture(scope="module")
def pool_dir(tmp_path_factory):
    """Training folder of a tiny super-network, with random weights."""
    folder = tmp_path_factory.mktemp("pool")
    changes = {
        "model.name": "faster-rcnn-test",
        "model.backbone": FULL.to_text(),
        "data.train": "shapes:train:4",
        "data.val": "shapes:val:2",
        "train.batch_size": 2,
        "train.distill.teacher": "runs/pool_0",
        "train.elastic.depths": [[1, 2], [2], [1, 2], [2]],
        "train.elastic.widths": [[1.0, 1.5]] * 4,
        "train.elastic.sizes": [[64, 64], [48, 48]],
        "train.elastic.recalibration_images": 4,
    }
    recipe = config.make_recipe(changes=changes)
    model = registry.create("faster-rcnn-test", backbone=FULL)
    stored.save(model, folder / "last.weights.h5")
    config.save_recipe(recipe, folder / trained.RECIPE_FILE)
    return folder


def test_the_folder_is_measured_and_trained_like_any_other(run, pool_dir, tmp_path):
    output = tmp_path / "new" / "subnet"
    code, said, _ = run(
        "extract",
        f"--model_dir={pool_dir}",
        f"--output={output}",
        "--depths=1,2,1,2",
        "--widths=1,1,1.5,1",
        "--image_size=48,48",
    )
    assert code == 0 and "subnet 1-2-1-2 x 1-1-1.5-1 @ 48x48" in said and "stage 4, block 1" in said
    subnet = trained.load_trained(output)
    assert subnet.config.backbone.depths == (1, 2, 1, 2)
    assert subnet.config.backbone.out_widths == (32, 64, 192, 256)
    assert subnet.image_size == (48, 48)
    train = trained.trained_recipe(output).train
    assert train.additions["elastic"] is None and not train.additions["distill"].teacher
    assert train.pretrained == str(output)


@pytest.mark.parametrize(
    ("argv", "code", "piece"),
    [
        (("--depths=1,two",), 2, "--depths must be numbers with commas between, got 1,two"),
        (("--depths=3,2,2,2",), 1, "the pool has no subnet 3-2-2-2"),
        (("--image_size=64",), 1, "the pool has no subnet"),
        (("--model_dir=/no/such",), 1, "there is no folder /no/such"),
        (("--output=/dev/null/o",), 1, "nothing can be written to /dev/null"),
    ],
)
def test_wrong_flags_are_refused(refused, pool_dir, tmp_path, argv, code, piece):
    common = (f"--model_dir={pool_dir}", f"--output={tmp_path}/o")
    refused("extract", (*common, *argv), piece, code=code)
    assert not (tmp_path / "o").exists()


def test_other_folders_are_refused(refused, model_dir, tmp_path):
    argv = (f"--model_dir={model_dir}", f"--output={tmp_path}/o")
    refused("extract", argv, "holds no super-network: its recipe has no train.elastic")
