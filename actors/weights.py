"""One path by which weights from a folder become a network: every tensor accounted for, finite, and of a known type."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from actors.errors import ModelError
from actors.model_files import ModelFolder

PREFIXES = ("_orig_mod.", "module.")
"""What torch.compile and DistributedDataParallel put before every name of a state dict."""

HARMLESS = (
    r"(^|\.)(position_ids|num_batches_tracked|relative_position_index|relative_coords_table|attn_mask)$"
)
"""Tensors that networks compute themselves; older versions of transformers saved them."""

_FLOATS = ("F64", "F32", "F16", "BF16")
_SHOWN = 3
_DEPTH = 200
"""Layers, or blocks of a kind. The text encoder of SDXL has 32."""

_DEPTHS = r"layers|depth|num_convs|num_blocks"
_IGNORED_SETTINGS = ("auto_map", "fusion_config", "transformers_weights", "dtype", "torch_dtype")
"""Settings that lead to other files, or to a precision that the recipe decides."""

log = logging.getLogger(__name__)


def load_network(
    kind: Any,
    config: Any,
    folder: ModelFolder,
    part: str,
    *,
    dtype: torch.dtype,
    unused: str | None = None,
) -> Any:
    """A network on the CPU with the weights of a part.

    Args:
        kind: a model class of diffusers or transformers.
        config: what makes its architecture: a mapping for diffusers, a `PreTrainedConfig` for transformers.
        folder: the model's folder.
        part: a folder in it, such as `unet`; empty for the folder itself.
        dtype: of the network.
        unused: a pattern of further names that the network has no use for, beside `HARMLESS`.

    Raises:
        ModelError: no network can be made of the configuration; weights are missing, unexpected, of another shape or
            type, NaN or infinite.
    """
    state = _read(folder, part, dtype)
    is_transformers = hasattr(kind, "config_class") and kind.config_class is not None
    make = _transformers_network if is_transformers else _diffusers_network
    with explained(folder, part):
        net, missing, unexpected, mismatched = make(kind, config, state, dtype)
    ignored = [name for name in unexpected if re.search(HARMLESS, name)]
    if unused is not None:
        ignored += [name for name in unexpected if name not in ignored and re.match(unused, name)]
    if ignored:
        log.info("%s: not needed and left out: %s", _of(folder, part), _some(ignored))
    _check_names(folder, part, missing, sorted(set(unexpected) - set(ignored)), mismatched)
    check_finite(folder.name, part, net)
    return net


def check_finite(model: str, part: str, network: nn.Module) -> None:
    """Refuses NaN and infinite weights and buffers.

    Raises:
        ModelError: with the first tensor that has one.
    """
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(
                f"{_label(model, part)} has NaN or infinite weights in {name}: take other weights, or a dtype that "
                "holds them"
            )


def usable(folder: ModelFolder, part: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A transformers configuration without the settings that would lead to other files, code or precision.

    Raises:
        ModelError: the weights are quantised.
    """
    if config.get("quantization_config") is not None:
        raise folder.error(
            folder.path / part / "config.json",
            "has a quantization_config, and quantised weights are not supported",
            "take weights in float32, bfloat16 or float16",
        )
    check_depth(folder, part, config)
    return {
        name: usable(folder, part, value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _IGNORED_SETTINGS and "_implementation" not in name
    }


def check_depth(folder: ModelFolder, part: str, config: Mapping[str, Any]) -> None:
    """Refuses a configuration with so many layers that building the network would take hours or all memory.

    Raises:
        ModelError: with the setting.
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            check_depth(folder, part, value)
        if not re.search(_DEPTHS, name):
            continue
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and number > _DEPTH:
                raise folder.error(
                    folder.path / part / "config.json",
                    f"has {name} {value!r}; at most {_DEPTH} are supported",
                )


@contextlib.contextmanager
def explained(folder: ModelFolder, part: str) -> Iterator[None]:
    """Whatever goes wrong in libraries that work on a user's configuration is an error of that configuration.

    Raises:
        ModelError: in place of any other error but `MemoryError`.
    """
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        where = folder.path / part if part else folder.path
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ModelError(
            f"cannot load {_of(folder, part)} from {where}: its configuration is not valid ({cause}): {folder.advice}"
        ) from error


def check_forward(folder: ModelFolder, part: str, run: Callable[[], Tensor], shape: tuple[int, ...]) -> None:
    """Runs a network once on a small input: what its configuration gets wrong shows before any sample is read.

    Args:
        folder: the model's folder.
        part: the network's folder in it.
        run: gives the output; on the meta device its shape alone is checked.
        shape: what the output must have.

    Raises:
        ModelError: the network fails, or gives another shape, NaN or infinity.
    """
    with explained(folder, part), torch.no_grad():
        output = run()
    finite = output.is_meta or bool(torch.isfinite(output).all())
    if tuple(output.shape) != shape or not finite:
        raise ModelError(
            f"{_of(folder, part)} gives {list(output.shape)}{'' if finite else ' with NaN or infinity'} for a small "
            f"input, {list(shape)} expected: {folder.advice}"
        )


def _read(folder: ModelFolder, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a part in a precision, by name, without a known prefix.

    Raises:
        ModelError: a file is broken, or has tensors that are not floating-point numbers.
    """
    state: dict[str, Tensor] = {}
    for path in folder.weights(part):
        kinds = folder.tensors(path)
        odd = [name for name, kind in kinds.items() if kind not in _FLOATS and not re.search(HARMLESS, name)]
        if odd:
            raise folder.error(
                path,
                f"holds {kinds[odd[0]]} numbers in {odd[0]}",
                "take weights in float32, bfloat16 or float16",
            )
        with safe_open(path, framework="pt") as file:
            for name, kind in kinds.items():
                # A copy: in the mapped file a tensor's alignment, and so the last bit of what is computed with it,
                # would depend on the length of the file's header, and another process could change it.
                tensor = file.get_tensor(name)
                state[name] = tensor.to(dtype, copy=True) if kind in _FLOATS else tensor.clone()
    for prefix in PREFIXES * 2:
        if state and all(name.startswith(prefix) for name in state):
            log.warning("%s: the prefix %s was taken off the names of all weights", _of(folder, part), prefix)
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


Made = tuple[Any, list[str], list[str], list[str]]
"""A network, and the names of missing, unexpected and mismatched weights; the last with both shapes."""


def _diffusers_network(kind: Any, config: Any, state: dict[str, Tensor], dtype: torch.dtype) -> Made:
    with init_empty_weights():
        net = kind.from_config(dict(config))
    # The names that attention had before diffusers 0.17, as in the autoencoder of SD 1.5.
    net._fix_state_dict_keys_on_load(state)
    wanted = net.state_dict()
    missing, unexpected, mismatched = _compared(wanted, state)
    if not missing and not mismatched:
        net.load_state_dict({name: state[name] for name in wanted}, assign=True)
    return net.eval(), missing, unexpected, mismatched


def _compared(
    wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Names of missing, unexpected and mismatched weights."""
    both = sorted(wanted.keys() & state.keys())
    mismatched = [
        _shapes(name, state[name].shape, wanted[name].shape)
        for name in both
        if state[name].shape != wanted[name].shape
    ]
    return sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys()), mismatched


def _transformers_network(kind: Any, config: Any, state: dict[str, Tensor], dtype: torch.dtype) -> Made:
    with torch.device("meta"):
        wanted = kind(config).state_dict()
    if sum(value.numel() for value in wanted.values()) > 2 * sum(value.numel() for value in state.values()):
        # What is missing would be made up first, and may be larger than the memory.
        return None, *_compared(wanted, state)
    transformers_logging.disable_progress_bar()
    # Its report of missing weights advises training them; ours names a remedy.
    reports = transformers_logging.get_logger("transformers.modeling_utils")
    reports.disabled = True
    try:
        net, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
        )
    finally:
        reports.disabled = False
    mismatched = [_shapes(*entry) for entry in sorted(report["mismatched_keys"])]
    if report["error_msgs"]:
        raise ValueError(report["error_msgs"][0])
    return net, sorted(report["missing_keys"]), sorted(report["unexpected_keys"]), mismatched


def _check_names(
    folder: ModelFolder, part: str, missing: list[str], unexpected: list[str], mismatched: list[str]
) -> None:
    found: list[tuple[str, list[str]]] = [
        ("lacks {} weights, such as {}", missing),
        ("has {} weights of another shape than its config.json says, such as {}", mismatched),
        ("has {} weights that do not belong to it, such as {}", unexpected),
    ]
    problems = [text.format(len(names), _some(names)) for text, names in found if names]
    if problems:
        where = folder.path / part if part else folder.path
        raise ModelError(f"{_of(folder, part)} {'; it '.join(problems)} ({where}): {folder.advice}")


def _shapes(name: str, found: Iterable[int], wanted: Iterable[int]) -> str:
    return f"{name} {list(found)} instead of {list(wanted)}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _of(folder: ModelFolder, part: str) -> str:
    return _label(folder.name, part)


def _label(model: str, part: str) -> str:
    return f"{model}: {part}" if part else f"the segmenter {model}"
