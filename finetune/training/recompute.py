"""A layer's activations made again for its backward pass instead of kept: gradient checkpointing, as others call it.

Loss and gradients keep their bits: the same operations run on the same numbers, dropout's random ones included.
"""

from typing import Any


def possible(model: Any) -> bool:
    """Whether the model has layers that can."""
    return bool(getattr(model, "supports_gradient_checkpointing", False)) and any(
        hasattr(module, "gradient_checkpointing") for module in model.modules()
    )


def switch(model: Any, on: bool) -> None:
    """Have all layers make theirs again from now on, or keep them. Idempotent.

    Raises ValueError where it is not `possible`.
    """
    # Before transformers 5.23 it has the other name alone, and from then on that one warns.
    old = not hasattr(model, "activation_checkpointing_enable")
    kind = "gradient" if old else "activation"
    if on:
        # Not reentrant: that kind needs inputs with gradients, which a frozen embedding does not give.
        getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{kind}_checkpointing_disable")()
