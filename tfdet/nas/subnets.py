"""The subnets of a super-network: depth and width of each stage, and the size of images.

A subnet has the first blocks of each stage, and of each block's channels the first ones. Widths are
coefficients: Joint-DetNAS's super-network is 1.5 times as wide as a ResNet-101.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from tfdet.backbones.encoding import NUM_STAGES, Encoding
from tfdet.errors import UserError

Sort = Literal["", "gamma", "weights"]


@dataclasses.dataclass(frozen=True)
class Subnet:
    """One of them.

    Attributes:
        depths: blocks of each stage.
        widths: coefficient of each stage.
        image_size: (height, width) of the canvas.
    """

    depths: tuple[int, ...]
    widths: tuple[float, ...]
    image_size: tuple[int, int]

    def __str__(self) -> str:
        depths, widths = (
            "-".join(f"{x:g}" for x in values) for values in (self.depths, self.widths)
        )
        size = "x".join(map(str, self.image_size))
        return f"{depths} x {widths} @ {size}"


@dataclasses.dataclass(frozen=True)
class SubnetSpace:
    """All subnets that a super-network is trained for.

    Attributes:
        depths, widths: what each stage may have.
        sizes: (height, width) of canvases.
        full_width: coefficient of the super-network itself.
    """

    depths: tuple[tuple[int, ...], ...]
    widths: tuple[tuple[float, ...], ...]
    sizes: tuple[tuple[int, int], ...]
    full_width: float = 1.5

    def __post_init__(self) -> None:
        for name in ("depths", "widths"):
            options = getattr(self, name)
            if len(options) != NUM_STAGES or not all(options):
                raise UserError(
                    f"{name} must have a list of choices for each of {NUM_STAGES} stages, "
                    f"got {options}"
                )
        if not self.sizes:
            raise UserError("sizes must have an image size at least")
        if min(map(min, self.depths)) < 1:
            raise UserError(f"each stage keeps a block at least, got depths {self.depths}")
        widths = [width for options in self.widths for width in options]
        if min(widths) <= 0 or max(widths) > self.full_width:
            raise UserError(
                f"widths must be above 0 and at most full_width={self.full_width:g}, "
                f"got {self.widths}"
            )

    @property
    def largest(self) -> Subnet:
        return self._extreme(max)

    @property
    def smallest(self) -> Subnet:
        return self._extreme(min)

    def _extreme(self, best: Any) -> Subnet:
        size = best(self.sizes, key=lambda size: size[0] * size[1])
        return Subnet(tuple(map(best, self.depths)), tuple(map(best, self.widths)), size)

    @property
    def count(self) -> int:
        options = (*self.depths, *self.widths, self.sizes)
        return int(np.prod([len(x) for x in options], dtype=np.int64))

    def __contains__(self, subnet: Subnet) -> bool:
        return subnet.image_size in self.sizes and all(
            len(values) == len(options) and all(map(tuple.__contains__, options, values))
            for values, options in ((subnet.depths, self.depths), (subnet.widths, self.widths))
        )

    def subnets(self) -> Iterator[Subnet]:
        """Each of them."""
        for choice in itertools.product(*self.depths, *self.widths, self.sizes):
            yield Subnet(choice[:NUM_STAGES], choice[NUM_STAGES:-1], choice[-1])

    def draw(self, random: np.random.Generator) -> Subnet:
        """One of them, each as likely."""
        choice = [
            options[random.integers(len(options))]
            for options in (*self.depths, *self.widths, self.sizes)
        ]
        return Subnet(tuple(choice[:NUM_STAGES]), tuple(choice[NUM_STAGES:-1]), choice[-1])

    def mutate(self, subnet: Subnet, random: np.random.Generator) -> Subnet:
        """`subnet` with another value in one place: a depth, a width or the size.

        The kind of place is drawn first, then the stage. With nothing to choose it stays as it is.
        """
        places = self._free_places()
        if not places:
            return subnet
        name = list(places)[random.integers(len(places))]
        stage = places[name][random.integers(len(places[name]))]
        options = self.sizes if name == "image_size" else getattr(self, name)[stage]
        values = getattr(subnet, name)
        now = values if name == "image_size" else values[stage]
        others = [option for option in options if option != now]
        new = others[random.integers(len(others))]
        if name != "image_size":
            new = (*values[:stage], new, *values[stage + 1 :])
        return dataclasses.replace(subnet, **{name: new})

    def _free_places(self) -> dict[str, list[int]]:
        places = {
            name: [i for i, options in enumerate(getattr(self, name)) if len(set(options)) > 1]
            for name in ("depths", "widths")
        }
        places["image_size"] = [0] if len(set(self.sizes)) > 1 else []
        return {name: stages for name, stages in places.items() if stages}


@dataclasses.dataclass(frozen=True)
class ElasticConfig:
    """How a super-network is trained: each step trains a random subnet at a random size.

    Attributes:
        depths, widths: choices of each stage; empty for those of the super-network.
        sizes: (height, width) of canvases. Each batch is scaled to fit into one of them, with its
            aspect ratio. Empty for the model's own.
        full_width: coefficient of the super-network.
        sort: before the first step channels are sorted, the most important first: by the |gamma| of
            their batch norms, or by the L1 norm of the "weights" that read them. Once, before the
            first training of narrower subnets.
        recalibration_images: training images from which the statistics of batch norms are
            recomputed, before a subnet or the whole is used.
    """

    depths: tuple[tuple[int, ...], ...] = ()
    widths: tuple[tuple[float, ...], ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    full_width: float = 1.5
    sort: Sort = ""
    recalibration_images: int = 1024

    def __post_init__(self) -> None:
        if self.full_width <= 0:
            raise UserError(f"elastic.full_width must be above 0, got {self.full_width}")
        if self.recalibration_images < 1:
            raise UserError(
                f"elastic.recalibration_images must be at least 1, got {self.recalibration_images}"
            )

    def space(self, encoding: Encoding, image_size: tuple[int, int]) -> SubnetSpace:
        """The subnets of a super-network with this backbone and canvas."""
        for size in self.sizes:
            if size[0] > image_size[0] or size[1] > image_size[1]:
                raise UserError(
                    f"elastic.sizes has {list(size)}, larger than model.image_size "
                    f"{list(image_size)}; the model's must be the largest"
                )
        space = SubnetSpace(
            self.depths or tuple((depth,) for depth in encoding.depths),
            self.widths or ((self.full_width,),) * NUM_STAGES,
            self.sizes or (tuple(image_size),),
            self.full_width,
        )
        for number, (wanted, full) in enumerate(
            zip(space.depths, encoding.depths, strict=True), start=1
        ):
            if max(wanted) > full:
                raise UserError(
                    f"elastic.depths wants {max(wanted)} blocks in stage {number}, but the "
                    f"super-network has {full}"
                )
        return space
