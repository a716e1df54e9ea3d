"""Parameters of the parts for images, by a config's `vision_config`. They are loaded, but text goes past them.

Source: the modules that `transformers` 5.23 builds; the tests count them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class _Sizes:
    config: Mapping[str, Any]
    #: What configs of its makers leave out.
    defaults: Mapping[str, int]
    #: Hidden features of the text.
    text: int

    def __getitem__(self, key: str) -> int:
        found = self.config.get(key)
        found = self.defaults[key] if found is None else found
        if not isinstance(found, int) or found < 0:
            raise ValueError(f"vision_config.{key}")
        return found

    def block(self, *, gated: bool = False, bias: bool = True, shift: bool = True) -> int:
        """A layer: four square ones of attention, the feed-forward part, two norms with or without a shift."""
        hidden, inner = self["hidden_size"], self["intermediate_size"]
        wide = 2 if gated else 1
        biases = (5 * hidden + wide * inner) * bias
        return 4 * hidden**2 + (wide + 1) * hidden * inner + biases + 2 * hidden * (1 + shift)

    def patch(self) -> int:
        """What reads a patch, without a bias."""
        return self["hidden_size"] * self["num_channels"] * self["patch_size"] ** 2


def _siglip(of: _Sizes) -> int:
    hidden, places = of["hidden_size"], (of["image_size"] // of["patch_size"]) ** 2
    # A query of its own, attention and a feed-forward part that put an image into one vector, and one norm of theirs.
    head = (of.block() - hidden) * (of["vision_use_head"] > 0)
    read = of.patch() + hidden + places * hidden
    return read + of["num_hidden_layers"] * of.block() + 2 * hidden + head + hidden * of.text + hidden


def _pixtral(of: _Sizes) -> int:
    hidden, layers = of["hidden_size"], of["num_hidden_layers"]
    merged = hidden + hidden**2 * of["spatial_merge_size"] ** 2
    joined = hidden * of.text + of.text**2 + 2 * of.text * (of["multimodal_projector_bias"] > 0)
    return of.patch() + hidden + layers * of.block(gated=True, bias=False, shift=False) + merged + joined


def _qwen2(of: _Sizes) -> int:
    hidden, side = of["hidden_size"], of["hidden_size"] * of["spatial_merge_size"] ** 2
    read = of.patch() * of["temporal_patch_size"]
    merger = hidden + side**2 + side + (side + 1) * of["out_hidden_size"]
    return read + of["depth"] * of.block(gated=True, shift=False) + merger


def _qwen3(of: _Sizes) -> int:
    hidden, side = of["hidden_size"], of["hidden_size"] * of["spatial_merge_size"] ** 2
    read = of.patch() * of["temporal_patch_size"] + hidden + of["num_position_embeddings"] * hidden
    merger = side**2 + side + (side + 1) * of["out_hidden_size"]
    deep = len(of.config.get("deepstack_visual_indexes", (8, 16, 24)))
    return read + of["depth"] * of.block() + merger + 2 * hidden + deep * (merger + 2 * side)


def _llama4(of: _Sizes) -> int:
    hidden, places = of["hidden_size"], (of["image_size"] // of["patch_size"]) ** 2
    joined = of["intermediate_size"] * of["projector_input_dim"] + of["projector_output_dim"] ** 2
    joined += of["vision_output_dim"] * of.text
    return of.patch() + (places + 2) * hidden + 4 * hidden + of["num_hidden_layers"] * of.block() + joined


_PICTURE: Final = {"num_channels": 3}
_PATCHES: Final = {**_PICTURE, "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2}
_TOWERS: Final[Mapping[str, tuple[Callable[[_Sizes], int], Mapping[str, int]]]] = {
    "gemma3": (_siglip, {**_PICTURE, "vision_use_head": 1}),
    "mistral3": (_pixtral, {**_PICTURE, "spatial_merge_size": 2, "multimodal_projector_bias": 0}),
    "qwen2_5_vl": (_qwen2, {**_PATCHES, "depth": 32, "hidden_size": 3584, "intermediate_size": 3420}),
    "qwen3_vl": (_qwen3, {**_PATCHES, "patch_size": 16, "num_position_embeddings": 2304}),
    "llama4": (_llama4, {**_PICTURE, "projector_input_dim": 4096, "projector_output_dim": 4096}),
}


def beside(name: str, config: Mapping[str, Any], text: int) -> int:
    """Parameters beside those of the text, of a config of this `model_type` with `text` hidden features.

    Raises ValueError and KeyError for what the config does not say.
    """
    reckon, defaults = _TOWERS[name]
    own = config["vision_config"]
    if not isinstance(own, Mapping):
        raise ValueError("vision_config")
    shared = {key: config[key] for key in ("spatial_merge_size", "multimodal_projector_bias") if key in config}
    return reckon(_Sizes({**shared, **own}, {**defaults, "out_hidden_size": text}, text))
