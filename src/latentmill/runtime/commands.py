"""The subcommands that use an export."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from latentmill.errors import InputError
from latentmill.runtime import paths
from latentmill.runtime.cores import cores
from latentmill.runtime.decoder import Decoder
from latentmill.runtime.facts import ENCODER
from latentmill.runtime.folder import CARD, Folder
from latentmill.runtime.image_file import read_images
from latentmill.runtime.images import check_output, write
from latentmill.runtime.json_file import at, text_at
from latentmill.runtime.progress_bar import with_progress
from latentmill.runtime.text import listed, plural, quoted

BATCH = 1024  # images that are written to a file at a time
SIZES, TIMED = (1, 64, 1024), 1.0  # images per call in a benchmark, and the seconds that each is repeated for


def sample(
    model: Path,
    out: Path,
    n: int,
    seed: int,
    temperature: float,
    truncation: float | None,
    label: str | None,
    guidance: float,
) -> None:
    """Draw images into a file or folder."""
    check_output(out)  # before the work starts
    decoder = Decoder(model)
    shape = (n, *decoder.image_shape)
    check_output(out, shape)
    batches = decoder.stream(n, min(n, BATCH), seed, temperature, truncation, label, guidance)
    write(out, with_progress(batches, n), shape)
    print(f"{out}: {_images(n, decoder)} from {model}, seed {seed}")


def reconstruct(model: Path, images: Path, out: Path, label: str | None) -> None:
    """Encode and decode images; in a PNG, each stands beside its original."""
    check_output(out)
    decoder = Decoder(model)
    originals = read_images(images, decoder.image_shape)
    found = decoder.reconstruct(originals, label)
    error = float(np.square(found - originals).mean())
    if out.suffix == ".png":
        found = np.stack([originals, found], axis=1).reshape(-1, *decoder.image_shape)
    columns = 2 * max(1, round(float(np.sqrt(len(originals) / 2))))
    write(out, [found], found.shape, columns)
    print(f"{out}: {_images(len(originals), decoder)} reconstructed by {model}, mean squared error {error:.4g}")


def interpolate(model: Path, out: Path, rows: int, steps: int, path: paths.Path, seed: int, label: str | None) -> None:
    """Paths between drawn codes, a row of images each."""
    check_output(out)
    decoder = Decoder(model)
    if rows < 1:
        raise InputError(f"rows must be at least 1, but got {rows}")
    codes = decoder.draw(2 * rows, seed, label=label)
    found = (decoder.interpolate(*ends, steps, path, label) for ends in zip(codes[::2], codes[1::2], strict=True))
    write(out, found, (rows * steps, *decoder.image_shape), steps)
    print(f"{out}: {plural(rows, f'{path} path')} of {_images(steps, decoder)} from {model}, seed {seed}")


def traverse(model: Path, out: Path, direction: list[str] | None, steps: int, seed: int, label: str | None) -> None:
    """A drawn image changed along directions, a row each: along those with these names, or along all."""
    check_output(out)
    decoder = Decoder(model)
    (code,) = decoder.draw(1, seed, label=label)
    names = direction or [each["name"] for each in decoder.directions]
    if not names:
        raise InputError(f"a model must have directions to be traversed, but {model} has none")
    found = (decoder.traverse(code, name, steps, label=label) for name in names)
    write(out, found, (len(names) * steps, *decoder.image_shape), steps)
    print(f"{out}: {_images(steps, decoder)} from {model}, seed {seed}, along each of these directions:")
    for name in names:
        print(f"  {quoted(name)}")


def inspect(model: Path) -> None:
    """What the model is, its verdicts with their evidence, and its files."""
    folder, decoder = Folder(model), Decoder(model)
    said = partial(text_at, decoder.card, str(model / CARD))
    print(f"{said('entry')}: model {said('model')}, {_size(decoder)} images, prior {said('prior')}")
    print(f"trained on: {said('data', 'description')}")
    samples = "metrics", "samples", at(decoder.card, "metrics", "exported_prior")
    for rule in ("rule_1", "rule_2"):
        print(f"{rule.replace('_', ' ')}: {said(*samples, rule, 'status')} ({said(*samples, rule, 'evidence')})")
    print(f"directions: {', '.join(quoted(each['name']) for each in decoder.directions) or 'none'}")
    if decoder.classes:
        guided = ", guided" if decoder.is_guided else ""
        print(f"conditional{guided}, label: {listed(decoder.classes)}")
    for name in folder.names:
        print(f"{folder.digests[name]}  {name}")


def verify(model: Path) -> None:
    """Every file against the manifest, and the graphs against one another, the decoder in each format."""
    folder, decoder = Folder(model), Decoder(model)
    for name in folder.names:
        print(f"{len(folder.read(name)):>12,} bytes  {name}: has the digest in the manifest")
    images, label = decoder.sample(3, seed=0), decoder.labels(3, seed=0)
    if decoder.latent is not None:
        z = decoder.draw(3, seed=0)
        decoded = decoder.decode(z, label)
        difference = float(np.abs(decoded - images).max())
        if difference > 1e-4:
            raise InputError(f"{model}'s decoder must make the generator's images, but differs by {difference:.3g}")
        if ENCODER in folder.names:
            decoder.reconstruct(images, label)
        for format in decoder.formats:
            _require_near(decoded, Decoder(model, format=format).decode(z, label), format, decoder.card, model)
    print(f"{model}: all graphs run and agree")


def _require_near(decoded: np.ndarray, found: np.ndarray, format: str, card: dict[str, Any], model: Path) -> None:
    """Raises InputError where images differ on average by more than the card says of any pixel of many images."""
    most = at(card, "formats", format, "largest_difference")
    levels = found if found.dtype == np.uint8 else 255 * found
    difference = float(np.abs(levels - 255 * decoded).mean())
    if isinstance(most, int | float) and not difference <= most:
        rule = f"{model}'s decoder in {format} must make the decoder's images but for {most:.3g} of 255 levels"
        raise InputError(f"{rule}, but differs on average by {difference:.3g}")


def bench(model: Path, threads: int | None) -> None:
    """Milliseconds per call of `sample`, and of `decode` in each format of the decoder, by the number of images."""
    decoder = Decoder(model, threads=threads)
    print(f"{model} on {plural(threads or cores(), 'thread')}, median of calls for {TIMED:g} s each")
    _bench("sample", lambda batch: decoder.sample(batch, seed=0))
    for format in (None, *decoder.formats) if decoder.latent is not None else ():
        formatted = Decoder(model, threads=threads, format=format)
        z, label = decoder.draw(SIZES[-1], seed=0), decoder.labels(SIZES[-1], seed=0)
        _bench(f"decode, {format}" if format else "decode", partial(_decode, formatted, z, label))


def _decode(decoder: Decoder, z: np.ndarray, label: list[str] | None, batch: int) -> np.ndarray:
    return decoder.decode(z[:batch], label and label[:batch])


def _bench(name: str, call: Callable[[int], object]) -> None:
    print(name)
    for batch in SIZES:
        seconds = _seconds(partial(call, batch))
        print(f"{plural(batch, 'image'):>13}: {1000 * seconds:>9.3f} ms, {batch / seconds:>12,.0f} images per second")


def _seconds(call: Callable[[], object]) -> float:
    times: list[float] = []
    call()  # the first call allocates memory
    while sum(times) < TIMED:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times)


def _images(count: int, decoder: Decoder) -> str:
    return f"{plural(count, 'image')} of {_size(decoder)}"


def _size(decoder: Decoder) -> str:
    return "x".join(map(str, decoder.image_shape))
