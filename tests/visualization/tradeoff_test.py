import numpy as np
from PIL import Image

from tfdet.visualization import tradeoff


def result(**static):
    rows = [
        {
            "share": s,
            "macs": 1e9 * (1 + s),
            "latency_ms": 5 + s,
            "AP": 0.3 + 0.1 * s,
            "AP_random": 0.3 + 0.05 * s,
            "AP_oracle": 0.35 + 0.1 * s,
        }
        for s in (0.0, 0.5, 1.0)
    ]
    return {"data": "shapes:val", "images": 8, "curve": rows, **static}


def ink(path):
    return np.sum(np.asarray(Image.open(path).convert("L")) < 128)


def test_both_costs_have_a_panel_and_static_detectors_their_marks(tmp_path):
    tradeoff.draw(result(), tmp_path / "plain.png")
    static = {"first": {"macs": 1e9, "AP": 0.3}, "second": {"macs": 2e9, "AP": 0.42}}
    tradeoff.draw(result(static=static), tmp_path / "static.png")
    width, height = Image.open(tmp_path / "plain.png").size
    assert width > 2 * height
    assert ink(tmp_path / "static.png") > ink(tmp_path / "plain.png")


def test_a_curve_without_a_cascade_has_its_own_line_alone(tmp_path):
    alone = result()
    alone["curve"] = [
        {k: v for k, v in row.items() if k not in ("AP_random", "AP_oracle")}
        for row in alone["curve"]
    ]
    tradeoff.draw(alone, tmp_path / "alone.png")
    tradeoff.draw(result(), tmp_path / "cascade.png")
    assert 0 < ink(tmp_path / "alone.png") < ink(tmp_path / "cascade.png")
