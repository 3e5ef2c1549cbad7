"""Samples of each entry while a sweep runs, in one picture: of its best trial so far, under the best of its priors."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from latentmill import registry
from latentmill.codes import Generator, float_array, frequent_labels
from latentmill.contract import Decodes, Generates, HasCodebook, Model
from latentmill.data.batches import as_float
from latentmill.draws import standard_normal
from latentmill.errors import error_line
from latentmill.files import write_bytes
from latentmill.runtime.images import grid, png
from latentmill.tracking.observers import Observer
from latentmill.tracking.so_far import NotYetError, model_so_far
from latentmill.trials.packs import FAULTS
from latentmill.trials.plan import Plan
from latentmill.trials.record import Record
from latentmill.trials.study import Planned

PICTURE = Path(".latentmill/live.png")
FIRST, EVERY = 15.0, 60.0  # seconds before the first picture, and from one to the next
SHARE = 0.02  # of the time of a core that may go into pictures
LOWEST = 19  # priority
COLUMNS, CAPTION, SEED = 12, 18, 0  # samples of a row; pixels above it


class LiveSamples(Observer):
    """Replaces the picture every minute, where anything is new."""

    def __init__(
        self,
        plan: Plan,
        real: np.ndarray,
        labels: np.ndarray | None,
        classes: int,
        show: Callable[[np.ndarray], None],
        note: Callable[[str], None],
        path: Path = PICTURE,
    ) -> None:
        """`real`, uint8 (N, C, H, W), are for comparison; `labels` (M) of `classes` are those of the training images.

        `show` gets each picture, too; `note` gets a sentence where one can't be drawn, which ends no sweep.
        """
        self.plan, self.labels, self.classes, self.path = plan, labels, classes, path
        self.show, self.note = show, note
        self.real = as_float(real[:COLUMNS])
        self.running: dict[str, int] = {}  # by fingerprint, the last epoch that is known
        self.rows: dict[str, np.ndarray] = {}  # by caption, those of the last picture
        self._noted: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw_now_and_then, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if kind is None:
            self.draw()

    def progressed(self, planned: Planned, result: dict[str, Any]) -> None:
        self.running[planned.fingerprint] = result["epoch"]

    def ended(self, planned: Planned, record: Record) -> None:
        self.running.pop(planned.fingerprint, None)

    def _draw_now_and_then(self) -> None:
        _yield_to_workers()
        pause = FIRST
        while not self._over.wait(pause):
            started = time.thread_time()
            self.draw()
            pause = max(EVERY, (time.thread_time() - started) / SHARE)

    def draw(self) -> None:
        """Draw, write and show the picture, unless nothing is new."""
        planned = list(self.plan.planned)  # a copy: the sweep adds to it
        rows: dict[str, np.ndarray] = {}
        for entry in dict.fromkeys(each.entry for each in planned):
            rows |= self._row([each for each in planned if each.entry == entry])
        if not rows or rows.keys() == self.rows.keys():
            return
        self.rows = rows
        picture = sheet({"real images": self.real} | rows)
        try:
            self.path.parent.mkdir(exist_ok=True)
            write_bytes(self.path, png(picture))
        except OSError as error:
            self._note_once(f"{self.path} can't be written: {error.strerror or error}")
        self.show(picture)

    def _note_once(self, sentence: str) -> None:
        if sentence not in self._noted:
            self._noted.add(sentence)
            self.note(sentence)

    def _row(self, planned: list[Planned]) -> dict[str, np.ndarray]:
        """The samples of an entry by their caption, or nothing where it has none yet."""
        chosen = self._chosen([each for each in planned if each.prior is None])
        if chosen is None:
            return {}
        priors = [each for each in planned if each.trial.parent == chosen.fingerprint]
        for prior in (self._chosen(priors), None):
            caption = ", ".join(self._caption(each) for each in (chosen, prior) if each is not None)
            try:
                return {caption: self.rows[caption] if caption in self.rows else self._samples(chosen, prior)}
            except NotYetError:
                continue
            except FAULTS as error:
                self._note_once(f"no picture of {caption}: {error_line(error)}")
        return {}

    def _chosen(self, planned: list[Planned]) -> Planned | None:
        """The best that has finished, or else the one that has come farthest."""
        finished = [each for each in planned if self._record(each).get("status") == "finished"]
        if finished:
            return min(finished, key=lambda each: float(self._record(each)["criterion"]))
        running = [each for each in planned if each.fingerprint in self.running]
        return max(running, key=lambda each: self.running.get(each.fingerprint, 0), default=None)

    def _caption(self, planned: Planned) -> str:
        epoch = self.running.get(planned.fingerprint)
        return planned.label if epoch is None else f"{planned.label} after epoch {epoch} of {planned.epochs}"

    def _record(self, planned: Planned) -> Record:
        """Empty unless the trial has ended."""
        return self.plan.records.get(planned.fingerprint, {})

    def _samples(self, chosen: Planned, prior: Planned | None) -> np.ndarray:
        """Raises NotYetError where there is nothing to draw from yet."""
        model = self._model(chosen)
        drawing = _standard_normal(model) if prior is None else self._model(prior, model)
        return samples(model, drawing, self.labels)

    def _model(self, planned: Planned, parent: Model | None = None) -> Model:
        shape = self.real.shape[1:]
        return model_so_far(self.plan.store, planned, self._record(planned), shape, self.classes, parent)


def _yield_to_workers() -> None:
    """This thread computes on one core, and only where Ray's workers, which have a low priority, leave it free."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)  # there, of this thread alone


@torch.no_grad()
def samples(model: Model, prior: Model | None, labels: np.ndarray | None) -> np.ndarray:
    """float32 (COLUMNS, C, H, W) in [0, 1], of frequent classes where labels are needed."""
    generator = Generator(model, prior)
    noise = standard_normal((COLUMNS, generator.noise_width), torch.Generator().manual_seed(SEED))
    chosen = frequent_labels(labels, COLUMNS, SEED) if generator.is_conditional and labels is not None else None
    images, *_ = generator(noise, chosen)
    return np.nan_to_num(float_array(images)).clip(0, 1)


def _standard_normal(model: Model) -> Model | None:
    """What draws the codes of a model until a prior has learned them; None where it needs none.

    Raises:
        NotYetError: its codes are no real numbers.
    """
    if isinstance(model, Generates) or not isinstance(model, Decodes):
        return None
    if isinstance(model, HasCodebook):
        raise NotYetError("nothing draws indices into its codebook yet")
    return registry.build("priors", "normal", {}, model.code_shape)


def sheet(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows of images, each float32 (n, C, H, W) below its caption: uint8 (height, width, 3)."""
    strips = {caption: grid(images, COLUMNS) for caption, images in rows.items()}
    width = max(strip.shape[1] for strip in strips.values())
    picture = Image.new("RGB", (width, sum(CAPTION + strip.shape[0] for strip in strips.values())), "white")
    draw, font, top = ImageDraw.Draw(picture), ImageFont.load_default(12), 0
    for caption, strip in strips.items():
        draw.text((4, top + 2), caption, fill="black", font=font)
        picture.paste(Image.fromarray(_in_colour(strip)), (0, top + CAPTION))
        top += CAPTION + strip.shape[0]
    return np.asarray(picture)


def _in_colour(pixels: np.ndarray) -> np.ndarray:
    """uint8 (height, width, C), grey, RGB, or one of these with alpha or more, as (height, width, 3)."""
    return pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, 2)
