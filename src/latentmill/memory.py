"""Errors of too little memory."""

import torch

MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """torch has a class for it; its CPU allocator and the libraries below it raise a RuntimeError, Python its own."""
    has_message = any(words in str(error) for words in MESSAGES)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and has_message)
