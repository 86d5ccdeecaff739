import numpy as np
import pytest

from tfdet import records
from tfdet.backbones.encoding import resnet_encoding, super_encoding
from tfdet.errors import UserError
from tfdet.nas.subnets import ElasticConfig, Subnet, SubnetSpace

SIZES = ((800, 1344), (720, 1088), (600, 800), (512, 512))
PHASE_2 = ElasticConfig(
    depths=((2, 3), (2, 3, 4), tuple(range(2, 24)), (2, 3)),
    widths=((1.0, 1.25, 1.5),) * 4,
    sizes=SIZES,
)
SMALL = SubnetSpace(((1, 2), (1,), (2,), (1,)), ((1.0, 1.5), (1.5,), (1.5,), (1.5,)), ((64, 64),))


def space(config=PHASE_2):
    return config.space(super_encoding((3, 4, 23, 3)), (800, 1344))


def test_the_spaces_are_as_large_as_published():
    assert space().count == 264 * 81 * 4 == 85_536
    phase_1 = ElasticConfig(
        depths=((3,), (4,), tuple(range(12, 24)), (3,)), widths=((1.25, 1.5),) * 4, sizes=SIZES
    )
    assert space(phase_1).count == 192 * 4
    assert space(ElasticConfig()).count == 1


def test_super_network_is_one_and_a_half_times_as_wide():
    encoding = super_encoding((3, 4, 23, 3))
    assert [blocks[0].widths for blocks in encoding.stages] == [
        (96, 96, 384),
        (192, 192, 768),
        (384, 384, 1536),
        (768, 768, 3072),
    ]
    assert encoding.stem == 64
    assert super_encoding((3, 4, 6, 3), 1.0) == resnet_encoding((3, 4, 6, 3))


def test_largest_and_smallest():
    assert space().largest == Subnet((3, 4, 23, 3), (1.5,) * 4, (800, 1344))
    assert space().smallest == Subnet((2, 2, 2, 2), (1.0,) * 4, (512, 512))
    assert str(space().smallest) == "2-2-2-2 x 1-1-1-1 @ 512x512"


def test_subnets_are_each_once_and_all_in_the_space():
    found = list(SMALL.subnets())
    assert len(set(found)) == len(found) == SMALL.count == 4
    assert all(subnet in SMALL for subnet in found)
    assert Subnet((3, 1, 2, 1), (1.5,) * 4, (64, 64)) not in SMALL
    assert Subnet((1, 1, 2, 1), (1.25, 1.5, 1.5, 1.5), (64, 64)) not in SMALL
    assert Subnet((1, 1, 2, 1), (1.5,) * 4, (32, 32)) not in SMALL


def test_draws_follow_from_the_generator_and_cover_the_space():
    random = np.random.default_rng(0)
    drawn = {SMALL.draw(random) for _ in range(60)}
    assert drawn == set(SMALL.subnets())
    assert space().draw(np.random.default_rng(5)) == space().draw(np.random.default_rng(5))


def test_a_mutation_changes_one_place():
    random = np.random.default_rng(1)
    subnet, kinds = space().largest, set()
    for _ in range(60):
        new = space().mutate(subnet, random)
        assert new in space()
        pairs = [
            *zip(subnet.depths, new.depths, strict=True),
            *zip(subnet.widths, new.widths, strict=True),
            (subnet.image_size, new.image_size),
        ]
        changed = [i for i, (a, b) in enumerate(pairs) if a != b]
        assert len(changed) == 1
        kinds.add(min(changed[0] // 4, 2))
        subnet = new
    assert kinds == {0, 1, 2}


def test_a_space_of_one_has_no_mutation():
    only = space(ElasticConfig()).largest
    assert space(ElasticConfig()).mutate(only, np.random.default_rng(0)) == only


def test_a_subnet_is_a_record():
    subnet = space().smallest
    assert records.from_dict(Subnet, records.to_dict(subnet)) == subnet


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": ((3,), (4,))}, "depths must have a list of choices for each of 4 stages"),
        ({"depths": ((0, 3), (4,), (23,), (3,))}, "each stage keeps a block"),
        ({"depths": ((4,), (4,), (23,), (3,))}, "wants 4 blocks in stage 1"),
        ({"widths": ((1.75,),) * 4}, "at most full_width=1.5"),
        ({"widths": ((0.0,),) * 4}, "above 0"),
        ({"sizes": ((900, 900),)}, "larger than model.image_size"),
        ({"full_width": 0.0}, "full_width must be above 0"),
        ({"recalibration_images": 0}, "recalibration_images must be at least 1"),
    ],
)
def test_wrong_spaces_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        space(ElasticConfig(**changes))
