"""Some eighty image files as people have them: every mode, depth, orientation and profile, and every kind of damage."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SIDE = 24  # pixels


@dataclass(frozen=True)
class Case:
    """A file, and what must become of it: these pixels, H×W or H×W×C, within a tolerance, or this reason."""

    content: bytes
    pixels: Any = None
    tolerance: float = 0  # levels of 255, at any pixel
    reason: str = ""


def picture(seed: int, channels: int = 3, side: int = SIDE) -> Any:
    """A smooth image that is its own mirror in no way, uint8 H×W×C."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, channels)).astype(np.uint8)
    image = Image.fromarray(coarse.squeeze()).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(side, side, channels)


def saved(pixels: Any, format: str, **settings: Any) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, format, **settings)
    return file.getvalue()


def png(samples: Any, colour: int, depth: int, clear: bytes = b"") -> bytes:
    """A PNG of a colour type and depth that Pillow does not write; `clear` is the tRNS chunk."""
    height, width = samples.shape[:2]
    kind = {8: ">u1", 16: ">u2"}[depth]
    rows = b"".join(b"\0" + row.astype(kind).tobytes() for row in samples)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    chunks += [(b"tRNS", clear)] if clear else []
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG of some bytes that claims a size."""
    content = bytearray(png(picture(0), 2, 8))
    content[8 : 8 + 25] = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return bytes(content)


def tiff(samples: Any, photometric: int, kind: int = 1, order: str = "<") -> bytes:
    """An uncompressed TIFF, of kinds that Pillow does not write: 1 integers, 3 floats."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    bits = 8 * samples.dtype.itemsize
    offset = 8 + 2 + 12 * 10 + 4
    extras = struct.pack(order + "HHH", bits, bits, bits) + struct.pack(order + "HHH", kind, kind, kind)
    short, long = (lambda value: struct.pack(order + "HH", value, 0)), (lambda value: struct.pack(order + "I", value))
    several = channels == 3
    tags = [
        (256, 3, 1, short(width)),
        (257, 3, 1, short(height)),
        (258, 3, channels, long(offset) if several else short(bits)),
        (259, 3, 1, short(1)),
        (262, 3, 1, short(photometric)),
        (273, 4, 1, long(offset + len(extras))),
        (277, 3, 1, short(channels)),
        (278, 3, 1, short(height)),
        (279, 4, 1, long(len(data))),
        (339, 3, channels, long(offset + 6) if several else short(kind)),
    ]
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(tags))
    body = b"".join(struct.pack(order + "HHI", tag, of, count) + value for tag, of, count, value in tags)
    return head + body + struct.pack(order + "I", 0) + extras + data


def wide_gamut() -> bytes:
    """Display P3 as a profile: that of sRGB with other primaries, and even with its name."""
    profile = bytearray(srgb())
    primaries = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    (count,) = struct.unpack(">I", profile[128:132])
    for entry in range(132, 132 + 12 * count, 12):
        name, offset, _ = struct.unpack(">4sII", profile[entry : entry + 12])
        if name in primaries:
            fixed = (round(value * 65536) for value in primaries[name])
            profile[offset + 8 : offset + 20] = struct.pack(">iii", *fixed)
    return bytes(profile)


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


UPRIGHT: dict[int, Callable[[Any], Any]] = {  # by EXIF's definition, of rows from the top and columns from the left
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def on_white(colour: Any, alpha: Any) -> Any:
    share = alpha[..., None] / 255
    return np.rint(colour * share + 255 * (1 - share))


def cases() -> dict[str, Case]:
    """Each by its file's name."""
    return _depths() | _alphas() | _colours() | _orientations() | _sequences() | _damaged() | _odd()


def _depths() -> dict[str, Case]:
    c, g = picture(1), picture(2, 1)[..., 0]
    deep = g.astype(np.uint16) * 257
    black_and_white = Image.fromarray(g).convert("1")
    bits = np.asarray(black_and_white) * 255
    return {
        "bits.png": Case(saved(black_and_white, "PNG"), bits),
        "fax.tiff": Case(saved(black_and_white, "TIFF", compression="group4"), bits),
        "grey.png": Case(saved(g, "PNG"), g),
        "grey.jpg": Case(saved(g, "JPEG", quality=100), g, 3),
        "grey 16.png": Case(png(deep, 0, 16), g),
        "grey 16.tif": Case(tiff(deep, 1), g),
        "grey 16 big-endian.tif": Case(tiff(deep, 1, order=">"), g),
        "grey 16 white is zero.tif": Case(tiff(65535 - deep, 0), g),
        "grey 8 white is zero.tif": Case(tiff(255 - g, 0), g),
        "grey 16 dark.png": Case(png(deep // 300, 0, 16), np.rint(deep // 300 / 257)),
        "grey floats.tiff": Case(tiff((g / 255).astype(np.float32), 1, 3), g),
        "grey floats to 255.tiff": Case(tiff(g.astype(np.float32), 1, 3), reason=r"floats must lie within 0\.\.1"),
        "grey NaN.tiff": Case(tiff(np.full((24, 24), np.nan, np.float32), 1, 3), reason="floats must lie within"),
        "grey 32.tiff": Case(tiff(g.astype(np.uint32), 1), reason="integers of 32 bits, whose white is not known"),
        "rgb 16.png": Case(png(c.astype(np.uint16) * 257, 2, 16), c),
        "rgb 16 between.png": Case(png(np.minimum(c.astype(int) * 257 + 100, 65535), 2, 16), c, 1),
        "rgb 16.tif": Case(tiff(c.astype(np.uint16) * 257, 2), c),
        "rgb floats.tif": Case(tiff((c / 255).astype(np.float32), 2, 3), reason="of a kind that is not read"),
    }


def _alphas() -> dict[str, Case]:
    c, g = picture(3), picture(4, 1)[..., 0]
    alpha = picture(5, 1)
    laid = on_white(c, alpha[..., 0])
    corner = tuple(map(int, c[0, 0]))
    holed = np.where((c == c[0, 0]).all(-1, keepdims=True), 255, c)
    palette = Image.fromarray(c).quantize(16)
    colours = np.array(palette.getpalette()).reshape(-1, 3)[np.asarray(palette)]
    of_palette = np.arange(16) * 17
    deep = c.astype(np.uint16) * 257
    return {
        "rgba.png": Case(saved(np.concatenate([c, alpha], -1), "PNG"), laid, 1),
        "rgba.webp": Case(saved(np.concatenate([c, alpha], -1), "WEBP", lossless=True, exact=True), laid, 1),
        "rgba 16.png": Case(png(np.concatenate([c, alpha], -1).astype(np.uint16) * 257, 6, 16), laid, 1),
        "la.png": Case(
            saved(np.concatenate([g[..., None], alpha], -1), "PNG"), on_white(g[..., None], alpha[..., 0]), 1
        ),
        "transparent colour.png": Case(saved(c, "PNG", transparency=corner), holed),
        "transparent colour 16.png": Case(png(deep, 2, 16, struct.pack(">HHH", *deep[0, 0])), holed),
        "transparent grey.png": Case(saved(g, "PNG", transparency=int(g[0, 0])), np.where(g == g[0, 0], 255, g)),
        "transparent grey 16.png": Case(
            png(g.astype(np.uint16) * 257, 0, 16, struct.pack(">H", int(g[0, 0]) * 257)), np.where(g == g[0, 0], 255, g)
        ),
        "transparent bit.png": Case(
            saved(Image.fromarray(g).convert("1"), "PNG", transparency=0), np.full((SIDE, SIDE), 255)
        ),
        "palette.png": Case(saved(palette, "PNG"), colours),
        "palette with one clear.png": Case(
            saved(palette, "PNG", transparency=3), np.where(np.asarray(palette)[..., None] == 3, 255, colours)
        ),
        "palette with alphas.png": Case(
            saved(palette, "PNG", transparency=of_palette.astype(np.uint8).tobytes()),
            on_white(colours, of_palette[np.asarray(palette)]),
            1,
        ),
        "palette of greys.gif": Case(saved(g, "GIF"), g),
        "all clear.png": Case(saved(np.concatenate([c, 0 * alpha], -1), "PNG"), np.full((SIDE, SIDE, 3), 255)),
    }


def _colours() -> dict[str, Case]:
    c, g = picture(6), picture(7, 1)[..., 0]
    cmyk = np.concatenate([255 - c, np.zeros((SIDE, SIDE, 1), np.uint8)], -1)
    red = np.full((SIDE, SIDE, 3), [234, 51, 35], np.uint8)  # sRGB's red in Display P3
    pure = np.full((SIDE, SIDE, 3), [255, 0, 0])
    soft = np.asarray(Image.fromarray(c).resize((3, 3)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) // 2 + 64
    lab = ImageCms.profileToProfile(
        Image.fromarray(soft), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    return {
        "cmyk.tif": Case(saved(Image.fromarray(cmyk, "CMYK"), "TIFF"), c, 1),
        "cmyk, inverted by Adobe.jpg": Case(saved(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=100), c, 12),
        "ycbcr.tif": Case(saved(Image.fromarray(c).convert("YCbCr"), "TIFF"), c, 4),
        "lab.tif": Case(saved(lab, "TIFF"), soft, 4),
        "srgb by name.png": Case(saved(c, "PNG", icc_profile=srgb()), c),
        "wide gamut.png": Case(saved(red, "PNG", icc_profile=wide_gamut()), pure, 2),
        "wide gamut.jpg": Case(saved(red, "JPEG", quality=100, icc_profile=wide_gamut()), pure, 4),
        "wide gamut, turned.jpg": Case(
            saved(red, "JPEG", quality=100, icc_profile=wide_gamut(), exif=orientation(6)), pure, 4
        ),
        "wide gamut, palette.png": Case(
            saved(Image.fromarray(red).quantize(2), "PNG", icc_profile=wide_gamut()), pure, 2
        ),
        "profile cut short.png": Case(saved(c, "PNG", icc_profile=srgb()[:200]), c),
        "profile of colour in grey.png": Case(saved(g, "PNG", icc_profile=srgb()), g),
    }


def _orientations() -> dict[str, Case]:
    found = {}
    for number, upright in UPRIGHT.items():
        c = picture(10 + number)
        for suffix, format, settings, tolerance in (
            ("jpg", "JPEG", {"quality": 100, "subsampling": 0}, 6),
            ("png", "PNG", {}, 0),
            ("webp", "WEBP", {"lossless": True}, 0),
            ("tif", "TIFF", {}, 0),
        ):
            content = saved(c, format, exif=orientation(number), **settings)
            found[f"turned {number}.{suffix}"] = Case(content, upright(c), tolerance)
    plain = picture(20)
    whole = orientation(6).tobytes()
    found["EXIF cut short.jpg"] = Case(saved(plain, "JPEG", quality=100, subsampling=0, exif=whole[:-9]), plain, 6)
    found["EXIF of text.jpg"] = Case(
        saved(plain, "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + b"text " * 9), plain, 6
    )
    return found


def _sequences() -> dict[str, Case]:
    c, g = picture(21), picture(22, 1)[..., 0]
    more = [Image.fromarray(picture(23)), Image.fromarray(picture(24))]
    pages = {"save_all": True, "append_images": more}
    greys = {"save_all": True, "append_images": [Image.fromarray(g[::-1])]}
    return {
        "animated.gif": Case(saved(g, "GIF", **greys), g),
        "animated.webp": Case(saved(c, "WEBP", lossless=True, **pages), c),
        "animated.png": Case(saved(c, "PNG", **pages), c),
        "pages.tiff": Case(saved(c, "TIFF", **pages), c),
        "two in one.jpg": Case(saved(c, "MPO", quality=100, subsampling=0, **pages), c, 6),
    }


def _damaged() -> dict[str, Case]:
    c = np.tile(picture(25), (8, 8, 1))
    flipped = bytearray(saved(c, "PNG"))
    flipped[len(flipped) // 2] ^= 255
    found = {
        "empty.png": Case(b"", reason="an empty file"),
        "text.png": Case(b"<html>not found</html>", reason="not an image of a known format"),
        "drawing.png": Case(b"<svg xmlns='http://www.w3.org/2000/svg'/>", reason="not an image of a known format"),
        "flipped bit.png": Case(bytes(flipped), reason="damaged"),
        "bomb.png": Case(bomb(50_000, 50_000), reason="too large"),
        "smaller bomb.png": Case(bomb(13_000, 11_000), reason="too large: 13000 by 11000 pixels"),
        "nothing but a beginning.png": Case(b"\x89PNG\r\n\x1a\n", reason="it begins as PNG"),
        "no size.gif": Case(b"GIF89a" + bytes(7) + b";", reason="it begins as GIF"),
    }
    for suffix, format, settings in (
        ("png", "PNG", {}),
        ("jpg", "JPEG", {}),
        ("jpeg", "JPEG", {"progressive": True}),
        ("webp", "WEBP", {}),
        ("tif", "TIFF", {"compression": "tiff_lzw"}),
        ("tiff", "TIFF", {}),
        ("bmp", "BMP", {}),
        ("gif", "GIF", {}),
    ):
        content = saved(c, format, **settings)
        found[f"cut short.{suffix}"] = Case(content[: len(content) // 2], reason="damaged")
        found[f"end lacks.{suffix}"] = Case(content[:-60], reason="damaged")
    return found


def _odd() -> dict[str, Case]:
    c = picture(26)
    passes = saved(c, "JPEG", quality=100, subsampling=0, progressive=True)
    return {
        "a PNG by content.jpg": Case(saved(c, "PNG"), c),
        "a WebP by content.png": Case(saved(c, "WEBP", lossless=True), c),
        "UPPER CASE.PNG": Case(saved(c, "PNG"), c),
        "no suffix": Case(saved(c, "PNG"), c),
        "progressive.jpg": Case(passes, c, 6),
        "bitmap.bmp": Case(saved(c, "BMP"), c),
        "more after its end.png": Case(saved(c, "PNG") + b"more" * 9, c),
        "ünï—code 🦊.png": Case(saved(c, "PNG"), c),
        'a "name", with; marks\n.png': Case(saved(c, "PNG"), c),
    }
