"""`tfdet-prune`: what it writes is a training folder like any other."""

import pytest

from tfdet import config, profiling, registry
from tfdet.backbones.encoding import encoding_of_widths, load_encoding
from tfdet.training import pretrained, trained
from tfdet.weights import stored

ENCODING = encoding_of_widths([[(8, 8)], [(10, 10)] * 2, [(12, 12)], [(12, 12)]], stem=8)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Training folder of a tiny Faster R-CNN on a ResNet, with random weights."""
    folder = tmp_path_factory.mktemp("base")
    changes = {
        "model.name": "faster-rcnn-test",
        "model.backbone": ENCODING.to_text(),
        "data.train": "shapes:train:4",
        "data.val": "shapes:val:2",
    }
    recipe = config.make_recipe(changes=changes)
    model = registry.create("faster-rcnn-test", backbone=ENCODING)
    stored.save(model, folder / "best.weights.h5")
    config.save_recipe(recipe, folder / trained.RECIPE_FILE)
    return folder


def test_the_folder_is_measured_and_trained_like_any_other(run, base, tmp_path):
    output = tmp_path / "new" / "pruned"
    argv = (f"--model_dir={base}", f"--output={output}", "--target_share=0.9", "--floor=4")
    code, said, _ = run("prune", *argv)
    assert code == 0 and "% of the cost" in said and "stage 4, block 0" in said
    student, parent = (trained.load_trained(folder) for folder in (output, base))
    costs = [profiling.profile(model).macs for model in (student, parent)]
    assert costs[0] <= 0.9 * costs[1]
    assert student.config.backbone == load_encoding(output / "encoding.json") != ENCODING
    recipe = trained.trained_recipe(output)
    assert recipe.data == trained.trained_recipe(base).data
    assert recipe.train.pretrained == str(output)
    fresh = registry.create("faster-rcnn-test", backbone=student.config.backbone)
    report = pretrained.start_from(fresh, recipe.train.pretrained)
    assert report == f"starting from {len(fresh.weights)} weights of {output}"
    code, said, _ = run("eval", f"--model_dir={output}")
    assert code == 0 and "AP50" in said


def test_other_families_are_refused(refused, model_dir, tmp_path):
    argv = (f"--model_dir={model_dir}", f"--output={tmp_path}/o", "--target_share=0.5")
    refused("prune", argv, "efficientdet-test does not stand on a ResNet", "Faster R-CNN")
    assert not (tmp_path / "o").exists()


def test_unreachable_targets_leave_no_folder(refused, base, tmp_path):
    argv = (f"--model_dir={base}", f"--output={tmp_path}/o")
    refused("prune", (*argv, "--target_share=0.01"), "at the least, with 16 channels left")
    refused("prune", (*argv, "--target_madds=1e12"), "multiply-adds already, no more than")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("argv", "code", "piece"),
    [
        ((), 2, "give --target_madds or --target_share"),
        (("--target_share=0.5", "--target_madds=1e9"), 2, "give only one of"),
        (("--target_share=1.5",), 2, "--target_share must be below 1, got 1.5"),
        (("--target_share=0",), 2, "--target_share must be above 0"),
        (("--target_share=0.5", "--floor=0"), 2, "--floor must be above 0"),
        (("--target_share=0.5", "--model_dir=/no/such"), 1, "there is no folder /no/such"),
    ],
)
def test_wrong_flags_are_refused(refused, tmp_path, argv, code, piece):
    common = (f"--model_dir={tmp_path}", f"--output={tmp_path}/o")
    refused("prune", (*common, *argv), piece, code=code)


def test_a_folder_with_something_in_it_is_left_alone(refused, base, tmp_path):
    (tmp_path / "kept").write_text("mine")
    argv = (f"--model_dir={base}", f"--output={tmp_path}", "--target_share=0.5")
    refused("prune", argv, "is there already; give a new folder")
    argv = (f"--model_dir={base}", f"--output={tmp_path}/kept/new", "--target_share=0.5")
    refused("prune", argv, f"nothing can be written to {tmp_path}/kept")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
