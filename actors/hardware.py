"""The class of hardware that a stage computes on: machines of one class give the same floats, others may not."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

_CPU_INFO, _DRIVER = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/version")
_ISA = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
)
"""CPU flags by which MKL and oneDNN choose their kernels. A hypervisor may hide them, whatever the model's name."""

SETTINGS = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
)
"""Environment variables that change the floats of a CPU."""

GPU_SETTINGS = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG")
"""The same for a GPU."""


def hardware_class(device: str) -> dict[str, str]:
    """What the floats of this process depend on, beside code, versions and the recipe.

    Args:
        device: `cpu` or `cuda`. A stage on a GPU has both: its random draws are made on the CPU.

    Returns:
        By name: `cpu` (model), `isa` (torch's own level, then CPU flags) and the variables of `SETTINGS` that are
        set; for `cuda` also `gpu`, `compute_capability`, `cuda`, `cudnn`, `driver` and those of `GPU_SETTINGS`.
    """
    import torch  # not above: planning calls `describe` and must stay light

    model, flags = _cpu()
    isa = [torch.backends.cpu.get_cpu_capability(), *(flag for flag in _ISA if flag in flags)]
    found = {"cpu": model, "isa": " ".join(isa)}
    names = [*SETTINGS]
    if device == "cuda":
        names += GPU_SETTINGS
        major, minor = torch.cuda.get_device_capability()
        found |= {
            "gpu": torch.cuda.get_device_name(),
            "compute_capability": f"{major}.{minor}",
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
            "driver": _driver(),
        }
    return found | {name: os.environ[name] for name in names if os.environ.get(name)}


def describe(hardware: Mapping[str, str]) -> str:
    """One line, such as `cpu AMD EPYC, isa AVX2 avx2 fma, MKL_CBWR AVX2`."""
    return ", ".join(f"{name} {value}" for name, value in hardware.items())


def _cpu() -> tuple[str, set[str]]:
    """The CPU's model, and its flags where the system lists them."""
    try:
        text = _CPU_INFO.read_text()
    except OSError:
        return platform.processor() or platform.machine(), set()
    fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", text.partition("\n\n")[0], re.MULTILINE))
    arm = " ".join(fields[name] for name in ("CPU implementer", "CPU part") if name in fields)
    model = fields.get("model name") or arm or platform.machine()
    return model.strip(), set((fields.get("flags") or fields.get("Features") or "").split())


def _driver() -> str:
    """The version of NVIDIA's driver, or `unknown` where it is not listed."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", _DRIVER.read_text())
    except OSError:
        return "unknown"
    return found[1] if found else "unknown"
