"""Counts the EfficientDet family and the paper's ablations, beside what was published.

    python -m benchmarks.efficientdet_counts > docs/efficientdet_counts.md

No weights are made and nothing is timed; the whole page takes about half a minute.
"""

from typing import NamedTuple

from tfdet import profiling, registry

# Published parameters (M) and multiply-adds (B) of the paper's table 2 and of the lite models.
FAMILY = {
    "d0": ("3.9", "2.5"),
    "d1": ("6.6", "6.1"),
    "d2": ("8.1", "11"),
    "d3": ("12", "25"),
    "d4": ("21", "55"),
    "d5": ("34", "135"),
    "d6": ("52", "226"),
    "d7": ("52", "325"),
    "d7x": ("77", "410"),
    "lite0": ("3.2", "–"),
    "lite1": ("4.2", "–"),
    "lite2": ("5.3", "–"),
    "lite3": ("8.4", "–"),
    "lite3x": ("9.3", "–"),
    "lite4": ("15.1", "–"),
}


class Network(NamedTuple):
    """A row of the paper's table 5: our keys for it, and what is published."""

    title: str
    fpn: str
    fusion: str
    cells: int
    ap: str
    parameters: str
    flops: str


NETWORKS = (
    Network("repeated top-down FPN", "fpn", "sum", 12, "42.29", "1.0", "1.0"),
    Network("repeated FPN+PANet", "panet", "sum", 6, "44.08", "1.0", "1.0"),
    Network("NAS-FPN", "nas_fpn", "sum", 6, "43.16", "0.71", "0.72"),
    Network("fully connected FPN", "fully_connected", "sum", 12, "43.06", "1.24", "1.21"),
    Network("BiFPN, unweighted", "bifpn", "sum", 6, "43.94", "0.88", "0.67"),
    Network("BiFPN, weighted", "bifpn", "fast", 6, "44.39", "0.88", "0.68"),
)

# Published AP of the paper's table 6 with softmax and with fast fusion, and the latter's speed-up.
FUSIONS = (
    ("small", "33.96", "33.85", "1.28x"),
    ("medium", "43.78", "43.77", "1.26x"),
    ("large", "48.79", "48.74", "1.31x"),
)

HEAD = """\
# EfficientDet: counts and ablations

Made by `python -m benchmarks.efficientdet_counts > docs/efficientdet_counts.md`. Multiply-adds are
those of convolutions for one image at the model's own size, with 90 classes. The published figures
also count biases, residual and fusion additions, squeeze-and-excite scalings, pooling and the
multiplications of swish, which adds 0.8 to 2.2 % (0.2 to 0.3 % to the lite models).
AP is the published one: nothing was trained for this page."""

TABLE_4_NOTE = """\
The first row is `retinanet-r50` at 640x640 with `model.coarse_from=pyramid`. The second is the
nearest that this family's parts offer: one top-down cell of width 256 with dense convolutions, and
dense heads, at 640x640. RetinaNet's own FPN has no convolution on P6 and P7, and makes them with
strided convolutions instead of pooling; the paper does not say which it took, nor the image size.
The second row is not claimed as reproduced."""

TABLE_5_HEAD = """\
D3 with another feature network: `model.fpn`, `model.fpn_fusion` and `model.fpn_cells`. Ratios are
of the cells alone, not of the detector, to FPN+PANet with {parameters} parameters and {macs}G
multiply-adds: counted so, they come nearest to the published ones."""

TABLE_5_NOTE = """\
The paper does not give the number of cells; 12 for the two networks with five nodes a cell fit its
ratios. The fully connected network stays 0.03 and 0.06 below the published ratios. `qufpn`,
`panet_shortcuts` and lists of nodes are further values of `model.fpn`:

    model:
      name: efficientdet-d3
      fpn:  # maps 0-4 are P3-P7, each node adds the next number
        - {level: 7, inputs: [4]}
        - {level: 6, inputs: [3, 5]}
        - {level: 5, inputs: [2, 6]}
        - {level: 4, inputs: [1, 7]}
        - {level: 3, inputs: [0, 8]}"""

TABLE_6_HEAD = """\
`model.fpn_fusion=softmax` against the default `fast`; other values are `sum`, `unbounded`,
`channel_fast` and `channel_softmax`. Both have {same} number of parameters ({parameters} for D3).
The paper's figures, with the speed-up on its own machine:"""


def family() -> list[str]:
    """The family beside the published figures."""
    lines = [
        "## The family",
        "",
        "| model | trainable | published | multiply-adds | published |",
        "|---|---|---|---|---|",
    ]
    for name, (parameters, flops) in FAMILY.items():
        counted = profiling.profile(f"efficientdet-{name}")
        work = f"{counted.macs / 1e9:.2f}G"
        lines.append(f"| {name} | {counted.parameters:,} | {parameters}M | {work} | {flops}B |")
    return [line.replace("–B", "–") for line in lines]


def backbones() -> list[str]:
    """Table 4: what the backbone and the feature network bring."""
    bifpn = profiling.profile("efficientdet-d3")
    fpn = _count(
        image_size=(640, 640), fpn="fpn", fpn_fusion="sum", fpn_width=256, fpn_cells=1,
        separable_conv=False,
    )  # fmt: skip
    retinanet = registry.config(
        "retinanet-r50", image_size=(640, 640), coarse_from="pyramid", num_classes=90
    )
    resnet = profiling.profile_config("retinanet-r50", retinanet)
    return [
        "## Backbone and feature network (the paper's table 4)",
        "",
        "| network | AP | parameters | multiply-adds | published |",
        "|---|---|---|---|---|",
        f"| ResNet50 + FPN | 37.0 | {_cost(resnet)} | 34M, 97B |",
        f"| EfficientNet-B3 + FPN | 40.3 | {_cost(fpn)} | 21M, 75B |",
        f"| EfficientNet-B3 + BiFPN (D3) | 44.4 | {_cost(bifpn)} | 12M, 24B |",
        "",
        TABLE_4_NOTE,
    ]


def networks() -> list[str]:
    """Table 5: feature networks relative to FPN+PANet."""
    counts = [_network(row) for row in NETWORKS]
    base = counts[1]
    lines = [
        "## Feature networks (the paper's table 5)",
        "",
        TABLE_5_HEAD.format(parameters=f"{base.parameters:,}", macs=f"{base.macs / 1e9:.3f}"),
        "",
        "| network | keys | AP | parameters | published | multiply-adds | published |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, part in zip(NETWORKS, counts, strict=True):
        parameters, macs = part.parameters / base.parameters, part.macs / base.macs
        lines.append(
            f"| {row.title} | `{row.fpn}`, `{row.fusion}`, {row.cells} | {row.ap} | "
            f"{parameters:.2f} | {row.parameters} | {macs:.2f} | {row.flops} |"
        )
    return [*lines, "", TABLE_5_NOTE]


def fusions() -> list[str]:
    """Table 6: softmax against fast fusion."""
    fast, softmax = (_count(fpn_fusion=fusion) for fusion in ("fast", "softmax"))
    same = "the same" if fast.parameters == softmax.parameters else "different"
    rows = [f"| {' | '.join(row)} |" for row in FUSIONS]
    return [
        "## Softmax and fast fusion (the paper's table 6)",
        "",
        TABLE_6_HEAD.format(same=same, parameters=f"{fast.parameters:,}"),
        "",
        "| model | AP softmax | AP fast | speed-up of fast |",
        "|---|---|---|---|",
        *rows,
    ]


def _count(**overrides: object) -> profiling.Profile:
    return profiling.profile_config(
        "efficientdet-d3", registry.config("efficientdet-d3", **overrides)
    )


def _network(row: Network) -> profiling.Part:
    counted = _count(fpn=row.fpn, fpn_fusion=row.fusion, fpn_cells=row.cells)
    return counted.parts["fpn_cells"]


def _cost(counted: profiling.Profile) -> str:
    return f"{counted.parameters / 1e6:.2f}M | {counted.macs / 1e9:.2f}G"


def main() -> None:
    sections = (family(), backbones(), networks(), fusions())
    print(HEAD, *("\n".join(section) for section in sections), sep="\n\n")


if __name__ == "__main__":
    main()
