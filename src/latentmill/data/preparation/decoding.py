"""From the bytes of an image file to upright pixels in sRGB, whatever the file's format, mode, depth and profile."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # no format that runs programs, as EPS does
LARGEST = 1 << 27  # pixels: a file of some bytes may claim any number
# What Pillow raises on damaged files, beside its own errors, which are OSErrors.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # modes of more than 8 bits
SRGB = ImageCms.createProfile("sRGB")


class NoImageError(Exception):
    """The bytes are no image that can be used; the message says why."""


class NotAnImageError(NoImageError):
    """They do not even claim to be one."""


@dataclass(frozen=True)
class Decoded:
    """An upright image in one of the modes L, LA, RGB and RGBA, and how it came to that."""

    image: Image.Image
    format: str
    mode: str  # the file's own
    size: tuple[int, int]  # width and height, as it stands upright
    conversions: tuple[str, ...]


def decode(content: bytes) -> Decoded:
    """Decode the first frame.

    Raises:
        NoImageError: there is none, or it is damaged, too large, or of values whose meaning is not known.
    """
    if not content:
        raise NotAnImageError("an empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images, odd EXIF and profiles: told as reasons here
        image = _opened(content)
        mode, name = image.mode, str(image.format)
        try:
            image.load()
            upright, turned = _upright(image)
            plain, conversions = _plain(upright)
        except DAMAGE as error:
            raise NoImageError(f"damaged: {_words(error)}") from None
    return Decoded(plain, name, mode, plain.size, turned + conversions)


def probe(content: bytes) -> tuple[int, int]:
    """Width and height from the header alone, as the image stands upright.

    Raises:
        NoImageError: as `decode`, where the header shows it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _opened(content)
        return image.size[::-1] if _orientation(image) >= 5 else image.size


def _opened(content: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise NotAnImageError("not an image of a known format") from None
    except DAMAGE as error:
        raise NoImageError(f"damaged: {_words(error)}") from None
    width, height = image.size
    if width * height > LARGEST:
        raise NoImageError(f"{width} by {height} pixels are more than {LARGEST >> 20} Mi")
    return image


def _orientation(image: Image.Image) -> int:
    """From EXIF: 5 to 8 swap width and height; 1, upright, where there is none or it can't be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _upright(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    orientation = _orientation(image)
    if orientation == 1:
        return image, ()
    transposed = _TRANSPOSED[orientation]
    return image.transpose(transposed), ("EXIF orientation applied",)


_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _plain(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """In sRGB, 8 bits a channel, without a palette."""
    if image.mode in DEEP or image.mode == "F":
        return _eight_bits(image), (f"{'floats' if image.mode == 'F' else '16 bits'} scaled to 8",)
    told = list[str]()
    if image.mode in ("P", "PA") or (image.mode in ("1", "L", "RGB") and "transparency" in image.info):
        told.append("palette resolved" if image.mode in ("P", "PA") else "transparent colour to alpha")
        image = _without_palette(image)
    elif image.mode == "1":
        image = image.convert("L")
    image, converted = _to_srgb(image)
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        told.append(f"{image.mode} to RGB")
        image = image.convert("RGBA" if image.mode in ("RGBa", "La") else "RGB")
    return image, (*told, *converted)


def _without_palette(image: Image.Image) -> Image.Image:
    alpha = image.mode == "PA" or "transparency" in image.info
    profile = image.info.get("icc_profile")
    if image.mode in ("1", "L"):
        image = image.convert("LA")
    else:
        image = image.convert("RGBA" if alpha else "RGB")
        image = _grey(image)
    if profile:
        image.info["icc_profile"] = profile
    return image


def _grey(image: Image.Image) -> Image.Image:
    """A palette of greys as the greys that they are."""
    pixels = np.asarray(image)
    if not (pixels[..., :1] == pixels[..., 1:3]).all():
        return image
    return image.convert("LA" if image.mode == "RGBA" else "L")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 0..65535, or floats of 0..1, scaled to 0..255."""
    values = np.asarray(image).astype(np.float64)
    white = 1 if image.mode == "F" else 65535
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > white:
        kind = "floats" if image.mode == "F" else "integers"
        raise ValueError(f"{kind} must lie within 0..{white}, but are {values.min():g} to {values.max():g}")
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def _to_srgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Through the file's colour profile where it has another than sRGB; one that can't be used is passed over."""
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        return _transformed(image, ImageCms.createProfile("LAB"), "RGB"), ("LAB to sRGB",)
    if not profile:
        return image, ()
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(given):
            return image, ()
        colour, alpha = _apart(image)
        converted = _transformed(colour, given, "RGB")
    except (ImageCms.PyCMSError, *DAMAGE):
        return image, ("colour profile unusable, passed over",)
    if image.mode in ("L", "LA"):
        converted = converted.convert("L")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted, ("colour profile to sRGB",)


def _apart(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colour and the alpha of an image."""
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    return image, None


def _transformed(image: Image.Image, profile: Any, mode: str) -> Image.Image:
    found = ImageCms.profileToProfile(image, profile, SRGB, outputMode=mode)
    assert found is not None
    return found


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
