import pytest

from tfdet import profiling, registry
from tfdet.errors import UserError
from tfdet.necks.topologies import TOPOLOGIES, FPNNode, topology

BIFPN = "6:3,4 5:2,5 4:1,6 3:0,7 4:1,7,8 5:2,6,9 6:3,5,10 7:4,11"
BIFPN_TO_P8 = "7:4,5 6:3,6 5:2,7 4:1,8 3:0,9 4:1,9,10 5:2,8,11 6:3,7,12 7:4,6,13 8:5,14"
BIFPN_FROM_P2 = "6:4,5 5:3,6 4:2,7 3:1,8 2:0,9 3:1,9,10 4:2,8,11 5:3,7,12 6:4,6,13 7:5,14"
QUFPN = (
    f"{BIFPN} 4:1,0 5:2,13 6:3,14 7:4,15 6:3,15,16 5:2,14,17 4:1,13,18 3:0,19 "
    "7:12,16 6:11,17 5:10,18 4:9,19 3:8,20"
)
FPN = "7:4 6:3,5 5:2,6 4:1,7 3:0,8"


def _written(nodes):
    return " ".join(f"{node.level}:{','.join(map(str, node.inputs))}" for node in nodes)


@pytest.mark.parametrize(
    ("name", "levels", "expected"),
    [
        ("bifpn", (3, 7), BIFPN),
        ("bifpn", (3, 8), BIFPN_TO_P8),
        ("bifpn", (2, 7), BIFPN_FROM_P2),
        ("qufpn", (3, 7), QUFPN),
        ("fpn", (3, 7), FPN),
        ("panet", (3, 7), f"{FPN} 3:9 4:8,10 5:7,11 6:6,12 7:5,13"),
        ("panet_shortcuts", (3, 7), f"{FPN} 3:0,9 4:1,8,10 5:2,7,11 6:3,6,12 7:4,5,13"),
        ("fully_connected", (3, 5), "3:0,1,2 4:0,1,2 5:0,1,2"),
        ("nas_fpn", (3, 7), "4:1,3 4:1,5 3:0,6 4:6,7 5:7,8,2 7:6,9,4 6:9,10"),
    ],
)
def test_networks_have_the_published_nodes(name, levels, expected):
    assert _written(topology(name, *levels)) == expected


@pytest.mark.parametrize("name", sorted(set(TOPOLOGIES) - {"nas_fpn"}))
@pytest.mark.parametrize("levels", [(3, 7), (2, 5), (3, 8)])
def test_every_network_is_a_valid_list_of_nodes_on_any_levels(name, levels):
    nodes = topology(name, *levels)
    assert topology(nodes, *levels) == nodes


# Cells, and parameters and multiply-adds relative to six cells of PANet: what the ratios of the
# paper's table 5 count (docs/efficientdet_counts.md).
RATIOS = {
    "fpn": (12, 1.00, 1.00),
    "nas_fpn": (6, 0.73, 0.71),
    "fully_connected": (12, 1.21, 1.15),
    "bifpn": (6, 0.86, 0.66),
}


def _feature_network(name, cells):
    config = registry.config("efficientdet-d3", fpn=name, fpn_cells=cells, fpn_fusion="sum")
    return profiling.profile_config("efficientdet-d3", config).parts["fpn_cells"]


def test_costs_relative_to_panet():
    panet = _feature_network("panet", 6)
    assert panet.parameters == 1_743_520
    assert round(panet.macs / 1e9, 3) == 5.634
    for name, (cells, parameters, macs) in RATIOS.items():
        part = _feature_network(name, cells)
        assert round(part.parameters / panet.parameters, 2) == parameters, name
        assert round(part.macs / panet.macs, 2) == macs, name


@pytest.mark.parametrize(
    ("fpn", "message"),
    [
        ("bifnp", "unknown feature network 'bifnp'; use one of bifpn"),
        ((FPNNode(8, (0,)),), "node 0 .* has level 8; levels are 3 to 7"),
        ((FPNNode(3, (0, 5)),), r"node 0 .* takes the maps \[0, 5\]; there are 0 to 4"),
        ((FPNNode(3, ()),), "needs at least one"),
        ((FPNNode(3, (0,), "attention"),), "needs two inputs for attention"),
        ((FPNNode(3, (0, 1)),), "makes no map for level 4"),
    ],
)
def test_broken_networks_are_refused(fpn, message):
    with pytest.raises(UserError, match=message):
        topology(fpn, 3, 7)


def test_nas_fpn_has_its_own_levels_only():
    with pytest.raises(UserError, match="levels 3 to 7, got 3 to 8"):
        topology("nas_fpn", 3, 8)
