import re

import tfdet
from tfdet.version import __version__


def test_the_version_is_three_numbers_and_public():
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab]|rc|\.dev)?\d*", __version__)
    assert tfdet.__version__ == __version__
