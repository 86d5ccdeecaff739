"""`tfdet-export` in other formats than the SavedModel, and what it refuses before any work."""

import json
import types

import pytest

from tfdet.cli import export
from tfdet.serving import compare, description, formats


@pytest.mark.parametrize(
    ("flags", "code", "pieces"),
    [
        (["--format=torch"], 2, ("--format must be one of saved_model, litert, onnx, openvino",)),
        (["--precision=int8"], 1, ("SavedModel is written in float32 only",)),
        (["--format=litert", "--precision=int8"], 1, ("int8 needs data",)),
        (["--format=onnx", "--precision=int4"], 1, ("choose from float32",)),
        (["--format=onnx", "--native_ops"], 1, ("native_ops are for SavedModels",)),
        (["--max_ap_loss=1"], 2, ("--max_ap_loss belongs to --compare",)),
        (["--compare"], 2, ("--compare needs --data",)),
        (["--compare", "--data=shapes:val", "--format=onnx"], 2, ("takes no --format",)),
        (["--compare", "--data=shapes:val", "--max_ap_loss=-1"], 2, ("at least 0, got -1",)),
    ],
)
def test_contradictions_are_refused(refused, model_dir, tmp_path, monkeypatch, flags, code, pieces):
    monkeypatch.setattr(formats, "_is_missing", lambda module: False)
    argv = [f"--model_dir={model_dir}", f"--output={tmp_path / 'served'}", *flags]
    refused("export", argv, *pieces, code=code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", formats.FORMS)
def test_a_missing_package_is_one_sentence(refused, model_dir, tmp_path, monkeypatch, form):
    monkeypatch.setattr(formats, "_is_missing", lambda module: True)
    argv = [f"--model_dir={model_dir}", f"--output={tmp_path / 'served'}", f"--format={form}"]
    refused("export", argv, f"writing {form} needs", f"pip install 'tfdet[{form}]'")


def test_a_comparison_needs_a_new_folder(refused, model_dir, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    argv = [f"--model_dir={model_dir}", f"--output={tmp_path}", "--compare", "--data=shapes:val"]
    refused("export", argv, "is there already; give a new folder")


@pytest.mark.parametrize(
    ("form", "data", "piece"),
    [
        ("saved_model", "voc:a:val", "as pixels and encoded; by its driver, images of voc:a:val; "),
        ("saved_model", None, "drawn images, as pixels and encoded; "),
        ("onnx", "voc:a:val", "drawn images, and images of voc:a:val; "),
        ("onnx", None, "batches of 1 and 3 drawn images; "),
    ],
)
def test_the_report_names_what_was_compared(form, data, piece, capsys):
    options = types.SimpleNamespace(format=form, precision="float32", data=data, output="served")
    export._report(options, compare.Difference(detections=100))
    assert f"{piece}100 detections equal the model's" in capsys.readouterr().out


@pytest.mark.slow
def test_infer_takes_what_export_wrote(run, model_dir, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is the extra litert of tfdet")
    argv = ["--format=litert", "--data=shapes:val:8", f"--output={tmp_path / 'served'}"]
    code, said, errors = run("export", f"--model_dir={model_dir}", *argv)
    assert (code, errors) == (0, [])
    assert "1500 detections equal the model's" in said
    image = tmp_path / "a.png"
    from tfdet.data import sources

    image.write_bytes(sources.open_dataset("shapes:val").encoded(0))
    results = []
    for i, model in enumerate((f"--model_dir={model_dir}", f"--saved_model={tmp_path / 'served'}")):
        output = tmp_path / str(i)
        argv = [f"--input={image}", f"--output_dir={output}", "--min_score=0.005"]
        assert run("infer", model, *argv)[0] == 0
        results.append(json.loads((output / "detections.json").read_text())[0]["detections"])
    assert len(results[0]) == len(results[1]) == 100
    assert (tmp_path / "served" / description.FILE).is_file()
