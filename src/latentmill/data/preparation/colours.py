"""Pixels of any mode, depth and colour profile as 8 bits a channel in sRGB, without a palette."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from latentmill.data.collection import NoImageError

DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # modes of more than 8 bits a channel
PLAIN = ("L", "LA", "RGB", "RGBA")
SRGB = ImageCms.createProfile("sRGB")
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
SAME = 2  # levels of 255, by which a profile that is sRGB in other words may differ
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF; Pillow heeds it in images of 8 bits alone

Converted = tuple[Image.Image, tuple[str, ...]]  # what was done to the image


def shallow(image: Image.Image) -> Converted:
    """An image of 16 bits or floats a channel scaled to 8 bits; others as they are.

    Raises:
        NoImageError: what is white in it is not known, or some value is beyond it.
    """
    if image.mode not in DEEP:
        return image, ()
    kind, white = ("floats", 1) if image.mode == "F" else ("16 bits", 65535)
    if image.mode == "I" and image.format != "PNG":
        raise NoImageError("integers of 32 bits, whose white is not known: save them with 8 or 16 bits")
    values = np.asarray(image)
    low, high = values.min().item(), values.max().item()
    if not (low >= 0 and high <= white):  # also where one is NaN
        raise NoImageError(f"{kind} must lie within 0..{white}, but are {low:g} to {high:g}")
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = white - values
    scaled = Image.fromarray(np.rint(values * np.float32(255 / white)).astype(np.uint8))
    if isinstance(clear := image.info.get("transparency"), int):
        scaled.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    scaled.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return scaled, (f"{kind} scaled to 8",)


def plain(image: Image.Image) -> Converted:
    """An image of at most 8 bits a channel in one of the modes `PLAIN`, in sRGB."""
    conversions = list[str]()
    if image.mode in ("P", "PA") or (image.mode in ("1", "L", "RGB") and "transparency" in image.info):
        conversions.append("palette resolved" if image.mode in ("P", "PA") else "transparent colour to alpha")
        image = _without_palette(image)
    elif image.mode == "1":
        image = image.convert("L")
    image, converted = _to_srgb(image)
    if image.mode not in PLAIN:
        conversions.append(f"{image.mode} to RGB")
        image = image.convert("RGBA" if image.mode in ("RGBa", "La") else "RGB")
    return image, (*conversions, *converted)


def _without_palette(image: Image.Image) -> Image.Image:
    alpha = image.mode == "PA" or "transparency" in image.info
    profile = image.info.get("icc_profile")
    is_grey = image.mode in ("1", "L")
    image = image.convert("LA") if is_grey else _grey(image.convert("RGBA" if alpha else "RGB"))
    image.info = {"icc_profile": profile} if profile else {}
    return image


def _grey(image: Image.Image) -> Image.Image:
    """A palette of greys as the greys that they are."""
    pixels = np.asarray(image)
    if not (pixels[..., :1] == pixels[..., 1:3]).all():
        return image
    return image.convert("LA" if image.mode == "RGBA" else "L")


def _to_srgb(image: Image.Image) -> Converted:
    """Through the file's colour profile; one that can't be used is passed over."""
    profile = LAB if image.mode == "LAB" else image.info.get("icc_profile")
    if not profile:
        return image, ()
    colour, alpha = _apart(image)
    try:
        transform = _transform(profile, colour.mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, ("colour profile unusable, passed over",)
    if transform is None:
        return image, ()
    converted = ImageCms.applyTransform(colour, transform)
    assert converted is not None  # None is of a transform in place
    if image.mode in ("L", "LA"):
        converted = converted.convert("L")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted, ("LAB to sRGB" if image.mode == "LAB" else "colour profile to sRGB",)


def _apart(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colour and the alpha of an image."""
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    return image, None


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any:
    """From a profile to sRGB, or None where that changes nothing: by its values, for its name may be wrong."""
    found = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), SRGB, mode, "RGB")
    if mode not in ("L", "RGB"):
        return found
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels) if mode == "RGB" else [levels[None]] * 3, -1)
    samples = Image.fromarray(cube.reshape(1, -1, 3))
    after = np.asarray(ImageCms.applyTransform(samples.convert(mode), found)).astype(int)
    return None if np.abs(after - np.asarray(samples)).max() <= SAME else found
