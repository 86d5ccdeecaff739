"""ResNets as data: an encoding lists each block of a backbone, in the style of Joint-DetNAS.

    encoding = load_encoding("student.json")
    print(encoding.to_table())
    tfdet.create("faster-rcnn-r18", backbone=encoding)

A file holds what `Encoding.to_json` writes, or the paper's lists of widths alone:

    [[[64, 64]], [[128, 128], [128, 128]], [[256, 256]], [[512, 512]]]
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tfdet import records
from tfdet.errors import UserError

NUM_STAGES = 4


@dataclasses.dataclass(frozen=True)
class Block:
    """A residual block.

    Attributes:
        widths: output channels of each convolution: two 3x3 (basic), or 1x1, 3x3, 1x1 (bottleneck).
        stride: 2 halves the map.
        projection: the shortcut has a 1x1 convolution and a batch norm.
        groups: of a bottleneck's 3x3 convolution (ResNeXt).
        deformable: a bottleneck's 3x3 convolution is deformable.
        dilation: distance in cells of the taps of a bottleneck's 3x3 convolution.
    """

    widths: tuple[int, ...]
    stride: int = 1
    projection: bool = False
    groups: int = 1
    deformable: bool = False
    dilation: int = 1

    @property
    def is_basic(self) -> bool:
        return len(self.widths) == 2

    @property
    def out_width(self) -> int:
        return self.widths[-1]

    @property
    def group_width(self) -> int:
        """Channels in a group of the 3x3 convolution of a bottleneck."""
        return self.widths[1] // self.groups


class Place(NamedTuple):
    """Where a block stands: stages count from 1, blocks from 0, as in the names of layers."""

    stage: int
    index: int

    def __str__(self) -> str:
        return f"stage {self.stage}, block {self.index}"


@dataclasses.dataclass(frozen=True)
class Encoding:
    """A whole backbone; one that cannot be built is refused with the reason.

    Equal encodings are equal networks: encodings can be compared, and be keys of dicts.

    Attributes:
        stages: blocks of each of the four stages. All blocks have as many convolutions. The first
            block of every stage but the first halves the map, and no other; that of the last stage
            may keep it.
        stem: channels of the stem.
        strides_first: the stride is in a bottleneck's first 1x1 convolution, as in the original
            weights from MSRA, instead of in the 3x3.
        epsilon: of the batch norms. The frozen ones of Detectron's family have none.
    """

    stages: tuple[tuple[Block, ...], ...]
    stem: int = 64
    strides_first: bool = False
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if len(self.stages) != NUM_STAGES:
            raise UserError(f"an encoding must have {NUM_STAGES} stages, got {len(self.stages)}")
        for number, blocks in enumerate(self.stages, start=1):
            if not blocks:
                raise UserError(f"stage {number} has no block; each stage needs one at least")
        if self.stem < 1:
            raise UserError(f"stem must be at least 1 channel wide, got {self.stem}")
        if not 0 <= self.epsilon < 1:
            raise UserError(f"epsilon must be in [0, 1), got {self.epsilon}")
        count = len(self.stages[0][0].widths)
        for place, block in self.blocks():
            _check_widths(place, block, count)
            _check_shortcut(place, block, self.in_width(place))
            _check_middle(place, block)

    def blocks(self) -> Iterator[tuple[Place, Block]]:
        """All blocks with their places, in the order of the data."""
        for number, blocks in enumerate(self.stages, start=1):
            for index, block in enumerate(blocks):
                yield Place(number, index), block

    def block(self, place: tuple[int, int]) -> Block:
        stage, index = place
        return self.stages[stage - 1][index]

    def in_width(self, place: tuple[int, int]) -> int:
        """Channels that a block reads."""
        stage, index = place
        if index:
            return self.stages[stage - 1][index - 1].out_width
        return self.stages[stage - 2][-1].out_width if stage > 1 else self.stem

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks in each stage."""
        return tuple(len(blocks) for blocks in self.stages)

    @property
    def out_widths(self) -> tuple[int, ...]:
        """Channels that each stage gives."""
        return tuple(blocks[-1].out_width for blocks in self.stages)

    @property
    def is_basic(self) -> bool:
        return self.stages[0][0].is_basic

    @property
    def last_level(self) -> int:
        """The level of the last stage's map: 5, or 4 where that stage keeps the map before it."""
        return 3 + self.stages[-1][0].stride

    @property
    def digest(self) -> str:
        """Twelve letters that are the same for equal encodings, in every process."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()[:12]

    def to_text(self) -> str:
        """JSON in one line, without what is at its default; `parse_encoding` reads it."""
        return json.dumps(_without_defaults(self))

    def to_json(self) -> str:
        """JSON for a file, a block per line."""
        data = _without_defaults(self)
        stages = [
            "  [\n" + ",\n".join(f"    {json.dumps(block)}" for block in blocks) + "\n  ]"
            for blocks in data.pop("stages")
        ]
        others = "".join(f', "{key}": {json.dumps(value)}' for key, value in data.items())
        return '{"stages": [\n' + ",\n".join(stages) + "\n]" + others + "}\n"

    def to_paper(self) -> str:
        """The paper's form: lists of stages, of blocks, of widths; it lacks groups and habits."""
        widths = [[block.widths for block in blocks] for blocks in self.stages]
        return json.dumps(widths, separators=(",", ":"))

    def to_table(self) -> str:
        """A row per block, for people."""
        lines = [f"{'block':<20}{'in':>6}  {'widths':<18}{'stride':>6}{'groups':>8}  shortcut"]
        for place, block in self.blocks():
            widths = " ".join(f"{width:>5}" for width in block.widths)
            kind = "projection" if block.projection else "identity"
            kind += ", deformable" if block.deformable else ""
            kind += f", dilation {block.dilation}" if block.dilation > 1 else ""
            lines.append(
                f"{place!s:<20}{self.in_width(place):>6}  {widths:<18}{block.stride:>6}"
                f"{block.groups:>8}  {kind}"
            )
        return "\n".join(lines)


def resnet_encoding(
    depths: Sequence[int],
    stem: int = 64,
    groups: int = 1,
    group_width: int = 64,
    basic: bool = False,
    deformable_stages: tuple[int, ...] = (),
    dilated: bool = False,
    strides_first: bool = False,
    epsilon: float = 1e-5,
) -> Encoding:
    """A ResNet or ResNeXt as published, where each stage is twice as wide as the one before.

    Args:
        depths: blocks of each stage.
        stem: width of the stem; the stages give 4, 8, 16 and 32 times that, those of basic blocks
            1, 2, 4 and 8 times that.
        groups, group_width: of the 3x3 convolutions of bottlenecks; their width in the first stage
            is the product.
        basic: blocks are two 3x3 convolutions (ResNet-18).
        deformable_stages: stages of bottlenecks whose 3x3 convolutions are deformable.
        dilated: the last stage keeps the size of its map (DC5); instead, the 3x3 convolutions of
            its bottlenecks after the first have a dilation of 2.
        strides_first, epsilon: see `Encoding`.
    """
    stages = []
    for number, depth in enumerate(depths, start=1):
        scale = 2 ** (number - 1)
        inner = groups * group_width * scale
        widths = (stem * scale,) * 2 if basic else (inner, inner, 4 * stem * scale)
        is_dilated = dilated and number == len(depths)
        stride = 1 if number == 1 or is_dilated else 2
        block = Block(widths, groups=groups, deformable=number in deformable_stages)
        first = dataclasses.replace(block, stride=stride, projection=not basic or number > 1)
        if is_dilated:
            block = dataclasses.replace(block, dilation=2)
        stages.append((first,) + (block,) * (depth - 1))
    return Encoding(tuple(stages), stem, strides_first, epsilon)


def encoding_of_widths(
    stages: Any, group_width: int = 0, stem: int = 64, where: str = "encoding"
) -> Encoding:
    """An encoding from the paper's lists of widths.

    Strides are where they must be, projections where the shortcut changes its shape.

    Args:
        stages: per stage a list of blocks, per block the output channels of each convolution.
        group_width: of the first stage of a ResNeXt (4 in "32x4d"); that of a block grows with its
            output. 0 for convolutions without groups.
        stem: channels of the stem.
        where: for messages.
    """
    before, made = stem, []
    share = group_width / (4 * stem) if group_width and stem > 0 else 0.0
    for number, blocks in enumerate(_lists(stages, f"{where}: the stages"), start=1):
        row = []
        for index, widths in enumerate(_lists(blocks, f"{where}: stage {number}")):
            place = f"{where}: {Place(number, index)}"
            widths = [_width(value, place) for value in _lists(widths, place)]
            stride = 2 if number > 1 and index == 0 else 1
            projection = bool(widths) and (stride > 1 or widths[-1] != before)
            groups = _groups(widths, share, place)
            before = widths[-1] if widths else before
            row.append(Block(tuple(widths), stride, projection, groups))
        made.append(tuple(row))
    with _at(where):
        return Encoding(tuple(made), stem)


def super_encoding(depths: Sequence[int], width: float = 1.5, stem: int = 64) -> Encoding:
    """A ResNet of bottlenecks whose stages, but not the stem, are `width` times as wide."""
    stages = []
    for number, depth in enumerate(depths):
        inner = round(stem * 2**number * width)
        stages.append([[inner, inner, 4 * inner]] * depth)
    return encoding_of_widths(stages, stem=stem)


def parse_encoding(text: str, where: str = "encoding") -> Encoding:
    """An encoding from JSON: what `to_text` or `to_json` gives, or the paper's lists of widths."""
    try:
        data = json.loads(text, object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON in line {error.lineno}: {error.msg}") from None
    except (RecursionError, UserError) as error:
        raise UserError(f"{where} cannot be read: {error}") from None
    if isinstance(data, list):
        return encoding_of_widths(data, where=where)
    with _at(where):
        return records.from_dict(Encoding, data)


def load_encoding(path: str | pathlib.Path) -> Encoding:
    """Reads an encoding from a JSON file."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"encoding {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"encoding {path} is not a text file in UTF-8") from None
    return parse_encoding(text, f"encoding {path}")


def _groups(widths: Sequence[int], group_share: float, where: str) -> int:
    """How many groups a block has whose groups are `group_share` times as wide as its output."""
    if not group_share or len(widths) != 3:
        return 1
    group_width = round(group_share * widths[2])
    if group_width < 1 or widths[1] < 1 or widths[1] % group_width:
        raise UserError(f"{where}: {widths[1]} channels are no whole groups of {group_width}")
    return widths[1] // group_width


@contextlib.contextmanager
def _at(where: str) -> Iterator[None]:
    """Within it, errors begin with the place where they were made."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_widths(place: Place, block: Block, count: int) -> None:
    widths = list(block.widths)
    if len(widths) not in (2, 3):
        raise UserError(f"{place} must have 2 widths (basic block) or 3 (bottleneck), got {widths}")
    if len(widths) != count:
        raise UserError(
            f"{place} has {len(widths)} widths, but the first block has {count}; basic blocks and "
            "bottlenecks cannot be mixed"
        )
    if min(widths) < 1:
        raise UserError(f"{place}: each width must be at least 1, got {widths}")


def _check_shortcut(place: Place, block: Block, in_width: int) -> None:
    stride = 2 if place.index == 0 and place.stage > 1 else 1
    keeps_size = block.stride == 1 and place == (NUM_STAGES, 0)
    if block.stride != stride and not keeps_size:
        raise UserError(
            f"{place} must have stride {stride}, got {block.stride}: the first block of every "
            "stage but the first halves the map, and no other; that of the last may keep it"
        )
    if block.projection:
        return
    if block.stride > 1 or in_width != block.out_width:
        raise UserError(
            f"{place} takes {in_width} channels to {block.out_width} with stride {block.stride}, "
            "so that its shortcut needs a projection"
        )


def _check_middle(place: Place, block: Block) -> None:
    """Refuses groups, offsets and dilations that a block cannot have."""
    for name in ("groups", "dilation"):
        if getattr(block, name) < 1:
            raise UserError(f"{place}: {name} must be at least 1, got {getattr(block, name)}")
    is_dilated = block.dilation > 1
    if block.is_basic and (block.groups > 1 or block.deformable or is_dilated):
        raise UserError(
            f"{place}: only bottlenecks have groups, deformable or dilated convolutions"
        )
    if block.deformable and is_dilated:
        raise UserError(f"{place}: a deformable convolution cannot be dilated")
    if block.groups == 1:
        return
    if block.widths[0] != block.widths[1]:
        raise UserError(
            f"{place}: with groups its first two widths must be equal, got {list(block.widths)}"
        )
    if block.widths[1] % block.groups:
        raise UserError(f"{place}: {block.widths[1]} channels cannot be split into {block.groups}")


def _without_defaults(record: Any) -> dict[str, Any]:
    kept = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.name == "stages":
            value = [[_without_defaults(block) for block in blocks] for blocks in value]
        if value != field.default:
            kept[field.name] = list(value) if isinstance(value, tuple) else value
    return kept


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"the key {key!r} stands twice")
    return dict(pairs)


def _lists(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{where} must be a list, got {value!r}")
    return value


def _width(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{where} must have whole numbers, got {value!r}")
    return value
