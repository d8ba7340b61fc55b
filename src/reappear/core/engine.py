"""Engines run independent pieces of work, locally or on a cluster, and allocate large matrices."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class Engine(Protocol):
    """Runs independent pieces of work and allocates what grows with the data.

    Attributes:
        memory_bytes: Most bytes of a growing list, such as that of links.
    """

    memory_bytes: int

    def map(self, function: Callable[[S, T], R], shared: S, items: Iterable[T]) -> Iterator[R]:
        """`function(shared, item)` for each item; results come in the order of the items.

        Args:
            function: A function of a module, that other processes can import; the same arguments give the same bits.
            shared: Data for all items, such as a matrix; sent once to each machine.
            items: Small; taken as the work goes on.
        """
        ...

    def zeros(self, rows: int, width: int) -> Float[np.ndarray, "rows width"]:
        """A float32 matrix of zeros, in memory or in a file mapped there; freed when it is garbage collected."""
        ...


class Local:
    """One piece after the other in this process; the library below each piece uses all cores."""

    def __init__(self, memory_bytes: int = 512 << 20) -> None:
        self.memory_bytes = memory_bytes

    def map(self, function: Callable[[S, T], R], shared: S, items: Iterable[T]) -> Iterator[R]:
        """`function(shared, item)` for each item."""
        for item in items:
            yield function(shared, item)

    def zeros(self, rows: int, width: int) -> Float[np.ndarray, "rows width"]:
        """A float32 matrix of zeros in memory."""
        return np.zeros((rows, width), np.float32)


LOCAL = Local()
