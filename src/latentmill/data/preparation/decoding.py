"""From the bytes of an image file to upright pixels in sRGB, whatever the file's format, mode, depth and profile."""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

from PIL import ExifTags, Image, UnidentifiedImageError

from latentmill.data.collection import NoImageError, NotAnImageError
from latentmill.data.preparation.colours import plain, shallow

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # no format that runs programs, as EPS does
BEGINNINGS = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"RIFF": "WebP", b"II": "TIFF", b"MM": "TIFF", b"GIF8": "GIF"}
EXIF = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # where Pillow finds an orientation
LARGEST = 1 << 27  # pixels: a file of some bytes may claim any number
# What Pillow raises on damaged files, beside its own errors, which are OSErrors.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    AttributeError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Decoded:
    """An upright image in one of the modes L, LA, RGB and RGBA, and the conversions that made it."""

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
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Pillow warns about large images, odd EXIF and profiles, which are reasons to drop here
        image = _opened(content)
        mode, name = image.mode, str(image.format)
        try:
            image.load()
            even, scaled = shallow(image)
            upright, turned = _upright(even, _orientation(image))
            found, converted = plain(upright)
        except DAMAGE as error:
            raise NoImageError(f"damaged: {_words(error)}") from None
    return Decoded(found, name, mode, found.size, scaled + turned + converted)


def probe(content: bytes) -> tuple[int, int]:
    """Width and height from the header alone, as the image stands upright.

    Raises:
        NoImageError: as `decode`, where the header shows it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _opened(content)
        is_turned = image.format != "TIFF" and _orientation(image) >= 5  # Pillow turns a TIFF's size itself
        return image.size[::-1] if is_turned else image.size


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise NotAnImageError("an empty file")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        claim = next((name for beginning, name in BEGINNINGS.items() if content.startswith(beginning)), None)
        if claim is None:
            raise NotAnImageError("not an image of a known format") from None
        raise NoImageError(f"damaged, or of a kind that is not read: it begins as {claim}") from None
    except Image.DecompressionBombError as error:
        raise NoImageError(f"too large: {_words(error)}") from None
    except DAMAGE as error:
        raise NoImageError(f"damaged: {_words(error)}") from None
    width, height = image.size
    if width * height > LARGEST:
        raise NoImageError(f"too large: {width} by {height} pixels are more than {LARGEST >> 20} Mi")
    return image


def _orientation(image: Image.Image) -> int:
    """From EXIF: 5 to 8 swap width and height; 1, upright, where there is none or it can't be read."""
    if image.format != "TIFF" and not any(key in image.info for key in EXIF):
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _upright(image: Image.Image, orientation: int) -> tuple[Image.Image, tuple[str, ...]]:
    if orientation == 1:
        return image, ()
    info = image.info
    image = image.transpose(_TRANSPOSED[orientation])
    image.info = info
    return image, ("EXIF orientation applied",)


_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
