"""Every source file has its test at the mirrored path: tfdet/a/b.py in tests/a/b_test.py."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1]

# Files whose test stands elsewhere, and where. An entry that is not needed any more is an error.
EXCEPTIONS = {
    "tfdet/cli/pretrain.py": "tests/training/pretraining_test.py",
    "tfdet/cli/infer_shown.py": "tests/cli/infer_test.py",
    "tfdet/detectors/joint_detnas.py": "tests/nas/counts_test.py",
    "tfdet/detectors/pyramid.py": "tests/detectors/fcos_test.py",
    "tfdet/detectors/routing.py": "tests/detectors/dynamicdet_test.py",
    "tfdet/detectors/second_backbone.py": "tests/detectors/dy_two_stage_test.py",
    "tfdet/detectors/setting.py": "tests/detectors/dynamicdet_test.py",
    "tfdet/nas/candidates.py": "tests/nas/search_test.py",
    "tfdet/nas/search_recipe.py": "tests/nas/search_test.py",
    "tfdet/nas/search_report.py": "tests/nas/search_test.py",
    "tfdet/nas/student_folder.py": "tests/nas/fine_tune_test.py",
    "tfdet/nas/teachers.py": "tests/nas/distill_test.py",
    "tfdet/serving/description.py": "tests/serving/formats_test.py",
    "tfdet/serving/exported.py": "tests/serving/formats_test.py",
    "tfdet/serving/litert_form.py": "tests/serving/formats_test.py",
    "tfdet/serving/measure.py": "tests/serving/formats_compared_test.py",
    "tfdet/serving/onnx_form.py": "tests/serving/formats_test.py",
    "tfdet/serving/photos.py": "tests/serving/formats_test.py",
    "tfdet/serving/piece_driver.py": "tests/serving/formats_test.py",
    "tfdet/serving/pieces.py": "tests/serving/formats_test.py",
    "tfdet/serving/replay_pieces.py": "tests/serving/formats_test.py",
    "tfdet/serving/verify_pieces.py": "tests/serving/formats_test.py",
    "tfdet/serving/replay.py": "tests/serving/export_test.py",
    "tfdet/serving/server/bodies.py": "tests/serving/server/application_test.py",
    "tfdet/serving/server/images.py": "tests/serving/server/application_test.py",
    "tfdet/serving/server/metrics.py": "tests/serving/server/application_test.py",
    "tfdet/serving/server/page.py": "tests/serving/server/application_test.py",
    "tfdet/serving/server/refusal.py": "tests/serving/server/application_test.py",
    "tfdet/serving/server/routes.py": "tests/serving/server/application_test.py",
    "tfdet/serving/server/saved_model.py": "tests/serving/server/served_model_test.py",
    "tfdet/serving/signatures.py": "tests/serving/export_test.py",
    "tfdet/training/pictures.py": "tests/training/trainer_test.py",
    "tfdet/training/router_step.py": "tests/detectors/router_step_test.py",
    "tfdet/training/wrapper.py": "tests/additions_test.py",
    "tfdet/weights/importing.py": "tests/weights/loading_test.py",
    "tfdet/weights/origins.py": "tests/weights/loading_test.py",
    "tfdet/weights/own.py": "tests/weights/loading_test.py",
    "tfdet/weights/source.py": "tests/weights/loading_test.py",
}


def mirrored(source: pathlib.Path) -> pathlib.Path:
    inner = source.relative_to(ROOT / "tfdet")
    return ROOT / "tests" / inner.with_name(f"{inner.stem}_test.py")


def sources() -> dict[str, pathlib.Path]:
    files = (ROOT / "tfdet").rglob("*.py")
    return {str(x.relative_to(ROOT)): x for x in sorted(files) if does_something(x)}


def does_something(path: pathlib.Path) -> bool:
    """Whether a file has a function or a class; those of packages only list names."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    nodes = ast.walk(ast.parse(path.read_text()))
    return path.name != "__init__.py" and any(isinstance(node, kinds) for node in nodes)


def test_every_source_file_has_its_test():
    missing = {name for name, path in sources().items() if not mirrored(path).is_file()}
    assert missing - EXCEPTIONS.keys() == set(), "write tests/a/b_test.py for tfdet/a/b.py"
    assert EXCEPTIONS.keys() - missing == set(), "these have their test now, or are gone"


def test_the_exceptions_have_their_test_elsewhere():
    absent = {place for place in EXCEPTIONS.values() if not (ROOT / place).is_file()}
    assert absent == set()
