import pytest

from tests.weights import fake_source, foreign
from tfdet.errors import UserError
from tfdet.weights import sources


def test_every_source_has_the_name_of_its_file():
    for name in (source.name for source in sources.known()):
        assert sources.source(name).name == name
        assert name in sources.NAMES


def test_a_file_of_one_project_is_recognised(monkeypatch):
    fake_source.install(monkeypatch)
    assert sources.recognised({"net.counter": ()}, "x.pth") is fake_source.SOURCE


def test_a_part_of_a_larger_model_is_named():
    part = foreign.shapes("torchvision", "resnet18")
    shapes = {f"{role}.{name}": x for role in ("student", "teacher") for name, x in part.items()}
    with pytest.raises(UserError, match=r"begins with 'student\.' would be of torchvision by"):
        sources.recognised(shapes, "x.pth")


def test_none_and_several_are_errors(monkeypatch):
    with pytest.raises(UserError, match=r"2 tensors \(a, b\) and is of no project"):
        sources.recognised({"a": (), "b": ()}, "x.pth")
    other = fake_source.SOURCE._replace(name="other")
    monkeypatch.setattr(sources, "known", lambda: [fake_source.SOURCE, other])
    with pytest.raises(UserError, match=r"named: fake:x\.pth \(Fake\) or other:x\.pth \("):
        sources.recognised({"net.counter": ()}, "x.pth")


@pytest.mark.parametrize("name", sources.NAMES)
def test_a_wrong_project_is_an_error_that_names_the_right_one(name):
    shapes = foreign.shapes("torchvision", "resnet18")
    if name == "torchvision":
        assert sources.named(name, shapes, "x.pth").name == name
        shapes = foreign.shapes("automl", "efficientdet-d0")
    right = "automl" if name == "torchvision" else "torchvision"
    with pytest.raises(UserError, match=rf"is not of .*; give {right}:x\.pth( \(|$)"):
        sources.named(name, shapes, "x.pth")


def test_a_wrong_project_of_a_file_that_nobody_knows_is_an_error():
    with pytest.raises(UserError, match=r"x\.pth has 1 tensors \(a\) and is not of DETR$"):
        sources.named("detr", {"a": (1,)}, "x.pth")


def test_published_networks_are_recognised_as_what_they_are():
    # The two styles of mmdetection's ResNets have the same names and shapes.
    either = {"mmdet", "mmdet_caffe"}
    found = 0
    for file in foreign.FIXTURES.glob("*.json.gz"):
        project = file.name.removesuffix(".json.gz")
        for network in foreign.networks(project):
            shapes = foreign.shapes(project, network)
            names = {one.name for one in sources.known() if one.recognises(shapes)}
            assert names == {project} or (project == "mmdet" and names == either), network
            found += 1
    assert found >= 30
