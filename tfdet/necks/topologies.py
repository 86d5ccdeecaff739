"""Feature networks as data: which maps each node of a cell fuses.

Maps are numbered: the inputs of the cell come first, from the finest level to the coarsest, and
each node adds the next number. The cell's output at a level is the last node of that level.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

from tfdet.errors import UserError


@dataclasses.dataclass(frozen=True)
class FPNNode:
    """One node of a cell.

    Attributes:
        level: level of the map that it makes.
        inputs: numbers of the maps that it takes.
        combine: "fuse" uses the cell's fusion; "attention" is NAS-FPN's global attention of the
            first two inputs, to which the others are added.
    """

    level: int
    inputs: tuple[int, ...]
    combine: Literal["fuse", "attention"] = "fuse"


Topology = tuple[FPNNode, ...]


def bifpn(min_level: int, max_level: int) -> Topology:
    """Top-down, then bottom-up with shortcuts from the inputs (EfficientDet, section 3.2)."""
    cell = _Cell(min_level, max_level)
    for level in range(max_level - 1, min_level - 1, -1):
        cell.add(level, (cell.last(level), cell.last(level + 1)))
    for level in range(min_level + 1, max_level + 1):
        cell.add(level, (*cell.of_level[level], cell.last(level - 1)))
    return tuple(cell.nodes)


def qufpn(min_level: int, max_level: int) -> Topology:
    """BiFPN and its mirror image side by side, added level by level."""
    cell = _Cell(min_level, max_level)
    cell.nodes = list(bifpn(min_level, max_level))
    inputs = range(cell.levels)
    down_up = _outputs(cell.nodes, cell.levels)
    cell.restart(len(cell.nodes))
    for level in range(min_level + 1, max_level + 1):
        cell.add(level, (cell.last(level), cell.last(level - 1)))
    # The mirrored pass lists the finest level last, like the top-down half of a BiFPN its first.
    for level in range(max_level - 1, min_level - 1, -1):
        cell.add(level, (*cell.of_level[level], cell.last(level + 1)))
    up_down = {min_level + i: cell.last(min_level + i) for i in inputs}
    for level in range(max_level, min_level - 1, -1):
        cell.add(level, (down_up[level], up_down[level]))
    return tuple(cell.nodes)


def fpn(min_level: int, max_level: int) -> Topology:
    """Top-down only (FPN), repeated cell by cell."""
    cell = _Cell(min_level, max_level)
    cell.add(max_level, (cell.last(max_level),))
    for level in range(max_level - 1, min_level - 1, -1):
        cell.add(level, (cell.last(level), cell.last(level + 1)))
    return tuple(cell.nodes)


def panet(min_level: int, max_level: int, has_shortcuts: bool = False) -> Topology:
    """FPN, then bottom-up (PANet); the bottom-up nodes may also take their level's input."""
    cell = _Cell(min_level, max_level)
    cell.nodes = list(fpn(min_level, max_level))
    top_down = _outputs(cell.nodes, cell.levels)
    cell.restart(len(cell.nodes))
    for level in range(min_level, max_level + 1):
        shortcut = (cell.of_level[level][0],) if has_shortcuts else ()
        finer = (cell.last(level - 1),) if level > min_level else ()
        cell.add(level, (*shortcut, top_down[level], *finer))
    return tuple(cell.nodes)


def fully_connected(min_level: int, max_level: int) -> Topology:
    """Every output level takes all inputs."""
    inputs = tuple(range(max_level - min_level + 1))
    return tuple(FPNNode(level, inputs) for level in range(min_level, max_level + 1))


def nas_fpn(min_level: int, max_level: int) -> Topology:
    """The searched cell of NAS-FPN (https://arxiv.org/abs/1904.07392), for levels 3 to 7."""
    if (min_level, max_level) != (3, 7):
        raise UserError(f"nas_fpn is defined for levels 3 to 7, got {min_level} to {max_level}")
    return (
        FPNNode(4, (1, 3), "attention"),
        FPNNode(4, (1, 5)),
        FPNNode(3, (0, 6)),
        FPNNode(4, (6, 7)),
        # The two last inputs are maps of the node's own level that nobody else takes.
        FPNNode(5, (7, 8, 2), "attention"),
        FPNNode(7, (6, 9, 4), "attention"),
        FPNNode(6, (9, 10), "attention"),
    )


TOPOLOGIES: dict[str, Callable[[int, int], Topology]] = {
    "bifpn": bifpn,
    "qufpn": qufpn,
    "fpn": fpn,
    "panet": panet,
    "panet_shortcuts": lambda low, high: panet(low, high, has_shortcuts=True),
    "nas_fpn": nas_fpn,
    "fully_connected": fully_connected,
}


def topology(fpn: str | Topology, min_level: int, max_level: int) -> Topology:
    """The nodes of a network given by name or as nodes, checked."""
    if isinstance(fpn, str):
        if fpn not in TOPOLOGIES:
            raise UserError(f"unknown feature network {fpn!r}; use one of {', '.join(TOPOLOGIES)}")
        return TOPOLOGIES[fpn](min_level, max_level)
    _check(fpn, min_level, max_level)
    return tuple(fpn)


class _Cell:
    """Nodes being added, and the numbers of the maps of each level so far."""

    def __init__(self, min_level: int, max_level: int):
        self.levels = max_level - min_level + 1
        self.min_level = min_level
        self.nodes: list[FPNNode] = []
        self.restart(0)

    def restart(self, nodes: int) -> None:
        """Forgets all maps but the inputs, keeping the count of the nodes there are."""
        self.of_level = {self.min_level + i: [i] for i in range(self.levels)}
        self.next = self.levels + nodes

    def last(self, level: int) -> int:
        return self.of_level[level][-1]

    def add(self, level: int, inputs: tuple[int, ...]) -> None:
        self.nodes.append(FPNNode(level, inputs))
        self.of_level[level].append(self.next)
        self.next += 1


def _outputs(nodes: list[FPNNode], inputs: int) -> dict[int, int]:
    """The number of the last node of each level."""
    return {node.level: inputs + i for i, node in enumerate(nodes)}


def _check(nodes: Topology, min_level: int, max_level: int) -> None:
    inputs = max_level - min_level + 1
    for i, node in enumerate(nodes):
        if not min_level <= node.level <= max_level:
            raise UserError(
                f"node {i} of the feature network has level {node.level}; levels are "
                f"{min_level} to {max_level}"
            )
        wrong = [n for n in node.inputs if not 0 <= n < inputs + i]
        if wrong or not node.inputs:
            raise UserError(
                f"node {i} of the feature network takes the maps {list(node.inputs)}; there are "
                f"0 to {inputs + i - 1} before it, and it needs at least one"
            )
        if node.combine == "attention" and len(node.inputs) < 2:
            raise UserError(f"node {i} of the feature network needs two inputs for attention")
    lacking = set(range(min_level, max_level + 1)) - {node.level for node in nodes}
    if lacking:
        raise UserError(f"the feature network makes no map for level {min(lacking)}")
