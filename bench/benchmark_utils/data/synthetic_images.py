"""Out-of-distribution images for MNIST that need no download: made of what installed packages ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

SIDE = 28
# Capitals that nobody reads as a digit: B D G I O Q S Z are left out (8 0 6 1 0 0 5 2).
LETTERS = "ACEFHJKLMNPRTUVWXY"
FONTS = (
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSansMono.ttf"),
    *("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSerif-Italic.ttf"),
    *("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "cmtt10.ttf", "cmss10.ttf"),
)
OVERSAMPLING = 4  # letters are drawn in black and white at four times the size, then averaged
REDUCTIONS = (1, 2, 4)  # a photograph is taken at its own size, a half and a quarter
LEAST_CONTRAST = 10.0  # standard deviation of a patch, grey levels of 255


def font_letters(number: int, seed: int) -> np.ndarray:
    """Return capital letters in the fonts that matplotlib ships, in MNIST's format: white, about 20 pixels high.

    A stand-in for notMNIST where there is no data folder. Letter, font, size (90 to 110 %), turn (-15 to 15
    degrees) and place (up to a pixel off) are drawn by the seed.

    Args:
        number: of images.
        seed: of what is drawn.

    Returns:
        [number, 28, 28, 1], uint8.
    """
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    rng = np.random.default_rng(seed)
    side = SIDE * OVERSAMPLING
    images = np.empty((number, SIDE, SIDE, 1), np.uint8)
    for row in range(number):
        letter, file = LETTERS[rng.integers(len(LETTERS))], FONTS[rng.integers(len(FONTS))]
        font = ImageFont.truetype(
            folder / file, round(96 * rng.uniform(0.9, 1.1)), layout_engine=ImageFont.Layout.BASIC
        )
        picture = Picture.new("1", (side, side))
        draw = ImageDraw.Draw(picture)
        left, top, right, bottom = draw.textbbox((0, 0), letter, font=font)
        x, y = (0.5 * side + OVERSAMPLING * rng.uniform(-1.0, 1.0) for _ in range(2))
        draw.text((x - 0.5 * (left + right), y - 0.5 * (top + bottom)), letter, fill=1, font=font)
        turned = picture.rotate(rng.uniform(-15.0, 15.0))
        images[row] = np.asarray(turned.convert("L").reduce(OVERSAMPLING))[..., None]
    return images


def photo_patches(number: int, seed: int) -> np.ndarray:
    """Return grey patches of the two photographs that scikit-learn ships (a temple and a flower).

    Patches of sky and of blurred background, without anything to see, are drawn again.

    Args:
        number: of images, divided between the two at random; each at one of three sizes.
        seed: of what is drawn.

    Returns:
        [number, 28, 28, 1], uint8.
    """
    from sklearn.datasets import load_sample_images

    photographs = [Picture.fromarray(image).convert("L") for image in load_sample_images().images]
    pages = [np.asarray(picture.reduce(factor)) for picture in photographs for factor in REDUCTIONS]
    rng = np.random.default_rng(seed)
    images = np.empty((number, SIDE, SIDE, 1), np.uint8)
    row = 0
    while row < number:
        page = pages[rng.integers(len(pages))]
        top, left = (rng.integers(length - SIDE + 1) for length in page.shape)
        patch = page[top : top + SIDE, left : left + SIDE]
        if patch.std() >= LEAST_CONTRAST:
            images[row, :, :, 0] = patch
            row += 1
    return images
