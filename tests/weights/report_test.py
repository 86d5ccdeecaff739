from tfdet.weights.report import Report

USED = (("conv.weight", "conv/kernel"), ("conv.bias", "conv/bias"))


def test_a_whole_import_says_all():
    report = Report("x.pth", "mmdet, PyTorch (zip)", used=USED)
    assert report.sentence() == "took all 2 weights of x.pth (mmdet, PyTorch (zip))"
    assert report.sentence("starting from").startswith("starting from all 2 weights of x.pth")


def test_new_variables_and_other_classes_are_named():
    new = ("class/kernel", "class/bias", "neck/a")
    report = Report(
        "x.pth", "mmdet", {"a": 1}, {"a": 1}, USED, ("n",), new, new[:2], classes=(80, 3)
    )
    assert report.sentence() == (
        "took 2 weights of x.pth (mmdet), which set a=1; it is of 80 classes and the model of 3, "
        "so that the class outputs are new: class/kernel, class/bias; 1 more are new: neck/a"
    )
    lines = report.to_text().splitlines()
    for line in (
        "setting  a: 1",
        "used     conv.bias -> conv/bias",
        "unused   n",
        "new      neck/a",
    ):
        assert line in lines
