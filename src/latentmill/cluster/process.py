"""How a process that has one core trains with torch."""

import ctypes
import platform

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes; below this size, what is freed stays with the process
KEPT_BEFORE_2_35 = 2**25  # older versions of glibc take no more


def use_one_core() -> None:
    """More threads would fight with the other workers."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # vanishing gradients of unused dimensions made a product ten times slower
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have glibc reuse the memory of large tensors that are freed; elsewhere nothing changes.

    By itself it gives much of it back, and the kernel hands out and clears the same pages at each step: a quarter of
    the time of a convolutional model. The process is no larger at its peak, but stays so until it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_TRIM_THRESHOLD, KEPT)
    if not mallopt(M_MMAP_THRESHOLD, KEPT):
        mallopt(M_MMAP_THRESHOLD, KEPT_BEFORE_2_35)


def give_back_freed_memory() -> None:
    """Have glibc return all that is free in its heap, also below what is in use; elsewhere nothing changes.

    By itself it returns what lies at the end of the heap alone, so a process would keep the most that any task took.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
