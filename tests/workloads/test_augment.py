"""Crops and flips of images: every result is a window of the padded original, and every window is equally likely."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from bench.workloads.augment import center_crop, crop_and_flip, shift

# Every pixel of an image differs from its neighbours and from its mirror image, so that a window tells its place.
IMAGES = torch.randint(256, (40, 3, 12, 10), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def padded(images, padding, fill):
    around = np.stack(
        [
            np.pad(images[:, c], ((0, 0), (padding, padding), (padding, padding)), constant_values=v)
            for c, v in enumerate(fill)
        ],
        axis=1,
    )
    return torch.from_numpy(around)


def places(original, window):
    """All (top, left, mirrored) at which the window [C, s, s] is found in the original [C, H, W]."""
    size = window.shape[-1]
    return [
        (top, left, mirrored)
        for mirrored in (False, True)
        for top in range(original.shape[1] - size + 1)
        for left in range(original.shape[2] - size + 1)
        if torch.equal(original[:, top : top + size, left : left + size], window.flip(2) if mirrored else window)
    ]


@pytest.mark.parametrize(
    ("size", "padding", "flip", "fill"),
    [(8, 0, True, ()), (8, 0, False, ()), (10, 0, True, ()), (10, 2, True, (9, 8, 7)), (1, 0, False, ())],
)
def test_every_result_is_a_window_of_the_padded_original(size, padding, flip, fill):
    before = IMAGES.clone()
    originals = padded(IMAGES, padding, fill or (0, 0, 0))
    mirrored = 0
    for seed in range(5):
        results = crop_and_flip(size, padding=padding, flip=flip, fill=fill)(IMAGES, generator(seed))
        assert results.shape == (40, 3, size, size) and results.dtype == torch.uint8 and results.is_contiguous()
        for original, result in zip(originals, results, strict=True):
            found = places(original, result)
            assert found
            mirrored += found[0][2]
    assert torch.equal(IMAGES, before)
    assert (mirrored > 0) == flip


def test_all_offsets_and_both_directions_are_equally_likely():
    # 5 x 3 offsets and 2 directions of 30 000 crops: chi-square with 29 degrees of freedom; 1 in 1000 is above 58.3.
    original = torch.arange(3 * 12 * 10).reshape(1, 3, 12, 10).to(torch.uint8)
    results = crop_and_flip(8, flip=True)(original.expand(30_000, 3, 12, 10), generator())
    corners = results[:, 0, 0, [0, 7]].tolist()
    counts = dict.fromkeys(itertools.product(range(5), range(3), (False, True)), 0)
    for first, last in corners:
        top, left = divmod(min(first, last), 10)
        counts[top, left, first > last] += 1
    assert sum(counts.values()) == 30_000
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 58.3


def test_images_are_drawn_independently():
    # If two images of a batch shared their draws, all would be at one place.
    original = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    results = crop_and_flip(9, flip=True)(original.expand(500, 1, 16, 16), generator())
    assert len({tuple(r[0, 0].tolist()) for r in results}) > 100  # of 128


def test_the_generator_determines_all():
    augment = crop_and_flip(8)
    want = augment(IMAGES, generator(3))
    torch.manual_seed(1)
    assert torch.equal(want, augment(IMAGES, generator(3)))
    assert torch.equal(want, crop_and_flip(8)(IMAGES.flip(0).flip(0), generator(3)))
    assert not torch.equal(want, augment(IMAGES, generator(4)))


def test_a_border_has_the_colour_given():
    black = torch.zeros(200, 3, 4, 4, dtype=torch.uint8)
    results = crop_and_flip(4, padding=4, flip=False, fill=(200, 100, 50))(black, generator())
    outside = results[:, 0] == 200
    assert outside.any() and (~outside).any()
    for c, level in enumerate((200, 100, 50)):
        assert torch.equal(results[:, c], torch.where(outside, level, 0).to(torch.uint8))


def test_images_that_are_not_contiguous():
    turned = IMAGES.transpose(2, 3)
    results = crop_and_flip(7)(turned, generator())
    assert torch.equal(results, crop_and_flip(7)(turned.contiguous(), generator()))
    assert all(places(original, result) for original, result in zip(turned, results, strict=True))


def test_a_shift_moves_and_never_mirrors():
    image = torch.zeros(1, 1, 6, 6, dtype=torch.uint8)
    image[0, 0, 2:4, 2:4] = torch.tensor([[1, 2], [3, 4]])
    results = shift(2, size=6)(image.expand(400, 1, 6, 6), generator())
    corners = {tuple((r[0] == 1).nonzero()[0].tolist()) for r in results}
    assert corners == {(top, left) for top in range(5) for left in range(5)}
    assert all(r.sum() == 10 for r in results)


@pytest.mark.parametrize(
    ("size", "rows", "columns"), [(8, (2, 10), (1, 9)), (10, (1, 11), (0, 10)), (7, (2, 9), (1, 8))]
)
def test_center_crop(size, rows, columns):
    assert torch.equal(center_crop(IMAGES, size), IMAGES[:, :, slice(*rows), slice(*columns)])
    assert torch.equal(center_crop(IMAGES[0, 0], size), IMAGES[0, 0, slice(*rows), slice(*columns)])


def test_our_own_mistakes():
    for wrong in (lambda: crop_and_flip(8, padding=2), lambda: crop_and_flip(8, fill=(1, 2, 3))):
        with pytest.raises(AssertionError, match="padding"):
            wrong()
    with pytest.raises(AssertionError, match="no window of 11 x 11 in 12 x 10"):
        crop_and_flip(11)(IMAGES, generator())
    with pytest.raises(AssertionError, match="one level per channel"):
        crop_and_flip(8, padding=1, fill=(1,))(IMAGES, generator())
    with pytest.raises(AssertionError, match="no window of 13 x 13"):
        center_crop(IMAGES, 13)
