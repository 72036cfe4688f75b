"""Random crops and flips of images, on the host, before they become floats.

Images are uint8 [B, C, H, W]. What is drawn comes from the generator given, so that an augmented mini-batch is a
function of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.workloads.problem import Augment


def crop_and_flip(size: int, *, padding: int = 0, flip: bool = True, fill: Sequence[int] = ()) -> Augment:
    """Every image is cut to a random `size` x `size` window, and mirrored left to right with probability 1/2.

    28 of 32 without padding is EASGD's (Zhang et al. 2015); 32 of 32 with padding 4 is that of residual networks (He et
    al. 2016). They pad with zeros after the mean is subtracted: here `fill` is the mean colour in whole levels, so that
    the border is at most half a level from zero after normalisation. All windows are equally likely.

    Args:
        size: height and width of the window, at most H + 2 padding and W + 2 padding.
        padding: pixels added on every side before the crop.
        flip: whether to mirror.
        fill: level of the added pixels, one per channel [C]; needed if there is padding.
    """
    assert size >= 1 and padding >= 0
    assert (padding > 0) == (len(fill) > 0), "padding needs the colour of its pixels, and a colour needs padding"
    colour = torch.tensor(list(fill), dtype=torch.uint8)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        b, c = images.shape[:2]
        padded = _pad(images, padding, colour) if padding else images.contiguous()
        h, w = padded.shape[2:]
        assert size <= min(h, w), f"no window of {size} x {size} in {h} x {w}"
        top = torch.randint(h - size + 1, (b,), generator=generator)
        left = torch.randint(w - size + 1, (b,), generator=generator)
        # A row of a window is `size` consecutive pixels of the batch, so a window is `size` rows of this view: one
        # gather of whole rows, ten times faster than one of pixels.
        corner = (torch.arange(b) * c * h + top) * w + left
        rows = corner.view(b, 1, 1) + (torch.arange(c) * h * w).view(1, c, 1) + torch.arange(size) * w
        cut = padded.view(-1).unfold(0, size, 1).index_select(0, rows.view(-1)).view(b, c, size, size)
        if flip:
            # numpy reverses bytes three times faster than torch.
            mirrored, pixels = torch.randint(2, (b,), generator=generator).bool().numpy(), cut.numpy()
            pixels[mirrored] = pixels[mirrored][..., ::-1]
        return cut

    return augment


def shift(pixels: int, *, size: int, background: int = 0) -> Augment:
    """Grey `size` x `size` images moved by up to `pixels` each way, the background showing where they were.

    For figures on a plain ground, such as handwritten digits, which mirroring would spoil.
    """
    return crop_and_flip(size, padding=pixels, flip=False, fill=(background,))


def center_crop(images: Tensor, size: int) -> Tensor:
    """The `size` x `size` window in the middle of images [..., H, W]; an odd pixel is cut at the bottom or right."""
    h, w = images.shape[-2:]
    assert 1 <= size <= min(h, w), f"no window of {size} x {size} in {h} x {w}"
    top, left = (h - size) // 2, (w - size) // 2
    return images[..., top : top + size, left : left + size].contiguous()


def _pad(images: Tensor, padding: int, colour: Tensor) -> Tensor:
    b, c, h, w = images.shape
    assert len(colour) == c, f"fill must have one level per channel: got {len(colour)} for {c}"
    padded = colour.view(1, c, 1, 1).repeat(b, 1, h + 2 * padding, w + 2 * padding)
    padded[:, :, padding:-padding, padding:-padding] = images
    return padded
