"""What the anchors of a loss are compared with."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def with_others(
    anchors: Float[Tensor, "n d"],
    identity: Int[Tensor, " n"],
    others: Float[Tensor, "m d"] | None,
    other_identity: Int[Tensor, " m"] | None,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "k d"], Int[Tensor, " k"]]:
    """The anchors, in float32 at least; all vectors, the anchors first; the identity of each."""
    anchors = anchors.float() if anchors.dtype in (torch.float16, torch.bfloat16) else anchors
    if others is None or other_identity is None:
        return anchors, anchors, identity
    return anchors, torch.cat([anchors, others.to(anchors.dtype)]), torch.cat([identity, other_identity])
