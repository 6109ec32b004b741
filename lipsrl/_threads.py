"""How many threads torch computes with, where it matters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread(when: bool = True) -> Iterator[None]:
    """Matrix products on one thread: they round differently on several, and small ones are slower.

    Where cores are busy much slower: threads wait for each other at every product.

    Args:
        when: False changes nothing.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if when else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
