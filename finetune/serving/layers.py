"""LoRA layers in one base model: put in, taken out, and chosen for the next forward pass, row by row.

PEFT keeps what is switched on in the layers themselves, and its own way to change that walks through all weights,
milliseconds a token. The layers are therefore remembered, and only their two flags set. A pass of several adapters
is PEFT's mixed batch: each layer hears the rows' adapters by a hook. Nothing here locks.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer

from finetune.serving.adapters import Shape
from finetune.serving.asks import fault

#: PEFT's word for a row without an adapter.
_BASE = "__base__"


class AdapterLayers:
    """The adapters of one model. Names are PEFT's, which allows no dots."""

    def __init__(self, base_name: str, model: Any) -> None:
        self._base_name, self._model = base_name, model
        self._peft: Any = None
        self._layers: list[BaseTunerLayer] = []
        self._hooks: list[Any] = []
        #: The adapter of each row of the next pass; None where all rows have one.
        self._rows: list[str] | None = None

    def choose(self, rows: Sequence[str | None]) -> None:
        """Have the next forward pass use these adapters, one a row; None is the base. All of them must mix."""
        if self._peft is None:
            return
        names = set(rows)
        self._rows = [name or _BASE for name in rows] if len(names) > 1 else None
        one = next(iter(names)) if len(names) == 1 else None
        for layer in self._layers:
            # Where no adapter can be mixed in, none of these rows has one.
            layer._disable_adapters = type(layer) is not Linear if self._rows else one is None
            if one is not None:
                layer._active_adapter = [one]

    def mixes(self, name: str) -> bool:
        """Whether the adapter can be in one pass with others: not DoRA, nor on other layers than linear ones."""
        return all(
            type(layer) is Linear and not layer.use_dora.get(name, False) and name not in layer.lora_variant
            for layer in self._layers
            if name in layer._all_available_adapter_names()
        )

    def inject(self, name: str, path: Path) -> None:
        """Put the adapter's layers and weights into the model, or leave it as it was and raise ServingError E750."""
        try:
            if self._peft is None:
                config = PeftConfig.from_pretrained(str(path))
                config.inference_mode = True
                with warnings.catch_warnings():
                    # PEFT 0.21 asks transformers 5 by an old name; nothing that a user could change.
                    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
                    self._peft = PeftModel(self._model, config, adapter_name=name)
            result = self._peft.load_adapter(str(path), name, torch_device=str(self._model.device))
            self._model.eval()
            if result.missing_keys or result.unexpected_keys:
                strays = [*result.missing_keys, *result.unexpected_keys]
                raise ValueError(f"{len(strays)} weights are missing or have no place, such as {strays[0]}")
            self._remember()
        except (RuntimeError, ValueError, KeyError, TypeError, OSError) as exc:
            self.eject(name)
            raise fault(
                "E750",
                f"the adapter in {path} does not fit {self._base_name}",
                str(exc).partition("\n")[0],
                "serve it on the base model that it was trained on",
            ) from exc

    def eject(self, name: str) -> None:
        """Take the adapter's layers out; with the last one, PEFT's own layers too."""
        others = [] if self._peft is None else [other for other in self._peft.peft_config if other != name]
        if others:
            if name in self._peft.peft_config:
                # PEFT warns when it has to choose another active adapter by itself.
                self._peft.base_model.set_adapter(others[0], inference_mode=True)
                self._peft.delete_adapter(name)
        else:
            self._peft = None
            # Not PEFT's unload: this also mends a model that PEFT left half changed.
            for place, module in list(self._model.named_modules()):
                if isinstance(module, BaseTunerLayer):
                    self._model.set_submodule(place, module.get_base_layer())
            if hasattr(self._model, "peft_config"):
                # PEFT's own mark; with it the next adapter would be taken for a second PEFT model around this one.
                del self._model.peft_config
        self._remember()

    def shapes(self) -> dict[str, Shape]:
        """Shapes of the base's weights by module name, PEFT's wrappers looked through."""
        return {
            name.removesuffix(".base_layer"): tuple(module.weight.shape)
            for name, module in self._model.named_modules()
            if isinstance(getattr(module, "weight", None), torch.Tensor) and ".lora_" not in name
        }

    def _remember(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._layers = [module for module in self._model.modules() if isinstance(module, BaseTunerLayer)]
        mixing: list[Any] = [layer for layer in self._layers if type(layer) is Linear]
        self._hooks = [layer.register_forward_pre_hook(self._named, with_kwargs=True) for layer in mixing]

    def _named(self, layer: Any, args: Any, kwargs: Any) -> Any:
        return None if self._rows is None else (args, {**kwargs, "adapter_names": self._rows})
