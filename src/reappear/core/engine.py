"""Where independent pieces of work are done, here or on the machines of a cluster, and where large matrices lie."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class Engine(Protocol):
    """Does pieces of work that do not depend on each other, and finds room for what grows with the data.

    Attributes:
        memory_bytes: Bytes that a list may take which grows while the work goes on, such as that of links.
    """

    memory_bytes: int

    def map(self, function: Callable[[S, T], R], shared: S, items: Iterable[T]) -> Iterator[R]:
        """`function(shared, item)` for each item; results come in the order of the items.

        Args:
            function: A function of a module, that other processes can import; the same arguments give the same bits.
            shared: What every piece reads, such as a matrix. It is sent once to each machine, not once for each item.
            items: Small; taken as the work goes on.
        """
        ...

    def zeros(self, rows: int, width: int) -> Float[np.ndarray, "rows width"]:
        """A float32 matrix of zeros, in memory or in a file mapped there; its room is free again when it is."""
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
