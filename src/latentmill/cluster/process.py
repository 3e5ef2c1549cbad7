"""Settings of torch and glibc for a worker process, which has one core."""

import ctypes
import platform

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes; smaller freed blocks stay with the process
KEPT_BEFORE_2_35 = 2**25  # older versions of glibc take no more


def use_one_core() -> None:
    """More threads would compete with the other workers."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # vanishing gradients of unused dimensions made a product ten times slower
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have glibc reuse the memory of large tensors that are freed; elsewhere nothing changes.

    By default it returns much of it, and the kernel clears the same pages at each step: a quarter of the time of a
    convolutional model. The peak memory is the same, but is kept until the process ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_TRIM_THRESHOLD, KEPT)
    if not mallopt(M_MMAP_THRESHOLD, KEPT):
        mallopt(M_MMAP_THRESHOLD, KEPT_BEFORE_2_35)


def give_back_freed_memory() -> None:
    """Have glibc return all free memory of its heap to the system; elsewhere nothing changes.

    By default it returns only the end of the heap, so a process would keep the peak of all its tasks.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
