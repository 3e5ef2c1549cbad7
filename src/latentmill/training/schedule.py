"""How many steps a trial may take, and how the learning rate changes over them."""

from math import ceil, cos, pi

from latentmill.config import TrainingConfig

RISE, LOWEST_FIRST, LOWEST_LAST = 0.3, 1 / 25, 1e-4  # one-cycle: the share of the steps that rise; the ends


def factor(config: TrainingConfig, step: int, steps: int) -> float:
    """The factor in (0, 1] of the learning rate at `step`, counted from 0, of at most `steps`.

    `cosine` falls to 0 (Loshchilov & Hutter 2017), after a linear `warmup`; `one-cycle` rises from a 25th and falls to
    a ten thousandth (Smith & Topin 2018), its rise as long as `warmup` if that is set.
    """
    if config.schedule == "one-cycle":
        rise = (config.warmup or RISE) * steps
        if step < rise:
            return _between(LOWEST_FIRST, 1.0, step / rise)
        return _between(1.0, LOWEST_LAST, (step - rise) / (steps - rise))
    warmup = config.warmup * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "cosine":
        return _between(1.0, 0.0, (step - warmup) / (steps - warmup))
    return 1.0


def steps_an_epoch(config: TrainingConfig, examples: int) -> int:
    """The batches of so many examples; the last may be smaller."""
    return ceil(examples / config.batch_size)


def epochs_allowed(config: TrainingConfig, examples: int) -> int:
    """The epoch that reaches `max_steps` is the last."""
    return min(config.epochs, ceil(config.max_steps / steps_an_epoch(config, examples)))


def _between(first: float, last: float, share: float) -> float:
    """Half a cosine from `first` to `last`."""
    return last + (first - last) * (1 + cos(pi * min(1.0, share))) / 2
