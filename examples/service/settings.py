"""What can be set, each by an environment variable such as LATENTMILL_MAX_BATCH."""

import os
from dataclasses import asdict, dataclass

from latentmill.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Raises: InputError: a request of `max_images` would never find room."""

    export: str = "exports/vae"
    max_images: int = 64  # of one request
    max_batch: int = 64  # images that are computed together
    max_queue: int = 256  # images that may wait; a request for more than there is room for gets 429
    delay_ms: float = 2.0  # that a batch waits for more requests
    threads: int = 1  # that compute a batch; more than one take the processor from those who wait even when idle
    max_body: int = 1 << 20  # bytes of a request

    def __post_init__(self) -> None:
        if not 1 <= self.max_images <= self.max_queue:
            raise InputError(f"max_images must be from 1 to max_queue={self.max_queue}, but got {self.max_images}")

    @classmethod
    def from_environment(cls) -> "Settings":
        """Its defaults, but for what the environment names."""
        given = {name: os.environ.get(f"LATENTMILL_{name.upper()}", value) for name, value in asdict(cls()).items()}
        return cls(**{name: type(getattr(cls, name))(value) for name, value in given.items()})
