import numpy as np
import pytest

from continuum.philox import key_of, normal_pair, philox


# Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, expected):
    with np.errstate(over="ignore"):
        words = philox(*map(np.uint32, counter), *map(np.uint32, key))
    assert tuple(int(word) for word in words) == expected


def test_normals_are_finite_at_the_ends_of_the_words_range():
    for word in (0, 2**32 - 1):
        pair = normal_pair(np.uint32(word), np.uint32(word))
        assert np.isfinite(pair).all()


def test_a_seed_outside_64_bits_is_refused():
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^64\), got -1"):
        key_of(-1)
