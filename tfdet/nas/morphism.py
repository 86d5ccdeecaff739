"""The actions by which a student changes: functions of (encoding, weights) that give its child's.

    random = np.random.default_rng(7)
    action = draw_action(encoding, MorphismConfig(), random)
    encoding, weights = apply_action(encoding, weights, action)

Functions of one action each: `prune_channels`, `prune_layers`, `add_layer`, `rearrange`.
"""

import dataclasses
from typing import Literal, get_args

import numpy as np

from tfdet.backbones.encoding import NUM_STAGES, Encoding
from tfdet.errors import UserError
from tfdet.nas.channel_pruning import prune_channels, spaces
from tfdet.nas.depth import Importance, add_layer, prune_layers, removable
from tfdet.nas.rearrange import rearrange, rearrangeable
from tfdet.nas.weights import LATERALS, Readers, Weights

Kind = Literal["prune_channels", "prune_layers", "add_layer", "rearrange"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclasses.dataclass(frozen=True)
class MorphismConfig:
    """How much an action changes, and which there are.

    Attributes:
        kinds: actions that may be drawn.
        share: of the channels, removed by "prune_channels".
        floor: channels that each convolution keeps.
        layers: blocks removed by "prune_layers".
        layer_importance: "sum" of a block's |weights|, or their "mean".
        backward: "rearrange" may also move a block to the stage before; if the width of that
            stage's output changes, what reads it starts from new weights.
    """

    kinds: tuple[Kind, ...] = KINDS
    share: float = 0.1
    floor: int = 16
    layers: int = 1
    layer_importance: Importance = "sum"
    backward: bool = False

    def __post_init__(self) -> None:
        if not self.kinds:
            raise UserError(f"kinds must name an action at least, of {', '.join(KINDS)}")
        if not 0 < self.share < 1:
            raise UserError(f"share must be in (0, 1), got {self.share}")
        for name in ("floor", "layers"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Action:
    """A change of a student; a record, so that a lineage can be written down and done again.

    Attributes:
        kind: which action.
        stage: that "add_layer" makes deeper; that "rearrange" moves a block out of or into, see
            there. 0 for the others.
        backward, seed: of "rearrange".
    """

    kind: Kind
    stage: int = 0
    backward: bool = False
    seed: int = 0

    def __str__(self) -> str:
        if self.kind == "rearrange":
            stages = (self.stage + 1, self.stage) if self.backward else (self.stage, self.stage + 1)
            return "rearrange {}->{}".format(*stages)
        return f"{self.kind} {self.stage}" if self.stage else self.kind


def feasible_actions(
    encoding: Encoding, config: MorphismConfig | None = None
) -> dict[Kind, list[Action]]:
    """What can be done to an encoding, by kind; kinds that cannot be done are left out."""
    config = config or MorphismConfig()
    can_shrink = any(
        space.width // space.unit > space.floor(config.floor) for space in spaces(encoding)
    )
    moves = [Action("rearrange", stage) for stage in rearrangeable(encoding)]
    if config.backward:
        moves += [Action("rearrange", s, backward=True) for s in rearrangeable(encoding, True)]
    found: dict[Kind, list[Action]] = {
        "prune_channels": [Action("prune_channels")] if can_shrink else [],
        "prune_layers": [Action("prune_layers")] if _can_lose(encoding, config.layers) else [],
        "add_layer": [Action("add_layer", stage) for stage in range(1, NUM_STAGES + 1)],
        "rearrange": moves,
    }
    return {kind: found[kind] for kind in config.kinds if found[kind]}


def draw_action(encoding: Encoding, config: MorphismConfig, random: np.random.Generator) -> Action:
    """One of the feasible actions: each kind is as likely, and each action of its kind."""
    feasible = feasible_actions(encoding, config)
    if not feasible:
        raise UserError(f"none of the actions {', '.join(config.kinds)} can be done any more")
    kind = list(feasible)[random.integers(len(feasible))]
    action = feasible[kind][random.integers(len(feasible[kind]))]
    if kind != "rearrange":
        return action
    return dataclasses.replace(action, seed=int(random.integers(2**31)))


def apply_action(
    encoding: Encoding,
    weights: Weights,
    action: Action,
    config: MorphismConfig | None = None,
    readers: Readers = LATERALS,
) -> tuple[Encoding, Weights]:
    """The child that an action makes of an encoding with weights, neither of which is changed.

    Args:
        encoding, weights: see `nas.weights.take_weights`.
        action: what to do.
        config: how much of it.
        readers: kernels outside of the backbone that read its outputs, of `model_readers`.
    """
    config = config or MorphismConfig()
    if action.kind == "prune_channels":
        return prune_channels(encoding, weights, config.share, config.floor, readers)
    if action.kind == "prune_layers":
        return prune_layers(encoding, weights, config.layers, config.layer_importance)
    if action.kind == "add_layer":
        return add_layer(encoding, weights, action.stage)
    return rearrange(encoding, weights, action.stage, action.backward, action.seed, readers)


def _can_lose(encoding: Encoding, count: int) -> bool:
    stages = {place.stage: 0 for place in removable(encoding)}
    for place in removable(encoding):
        stages[place.stage] += 1
    free = (min(n, encoding.depths[stage - 1] - 1) for stage, n in stages.items())
    return sum(free) >= count
