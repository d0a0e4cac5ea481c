"""Speed of a produced sample at the full size of SD 1.5 and SDXL, with random weights. `python -m benchmarks.gpu`.

A sample is one encoding, a fast inversion of 10 of 50 steps, their resampling, and one decoding; text states are
random too. A row tells samples a second by batch size, the share of the speed of a matrix product in the same run, and
the ratio to the baseline: the same work with the published settings of ReNoise, one sample at a time, in float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from actors.arithmetic import fix_arithmetic
from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import invert, resample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.loading import TIME_IDS, Networks
from actors.diffusion.model import DTYPES, DiffusionModel
from actors.diffusion.prompts import Prompts

INVERSION_STEPS = 10
TOKENS, POOLED = 77, 1280
MODES = ("eager", "compiled", "graphs")
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
"""Of both families. What is not written here and below are the defaults of diffusers, which are SD 1.5's."""

SD15_UNET = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768}
SDXL_UNET = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "use_linear_projection": True,
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": TIME_IDS * 256 + POOLED,
}
TOY = {"block_out_channels": [16, 16, 32, 32], "layers_per_block": 1, "norm_num_groups": 8}
"""What becomes of the widths in a toy; as many of them as the network has levels."""

console = Console(width=110)


@dataclass(frozen=True)
class Family:
    """Networks to be made, images of `side` pixels, and the autoencoder's precision where it has one of its own."""

    side: int
    unet: dict[str, Any]
    vae: dict[str, Any]
    vae_dtype: torch.dtype | None = None

    def toy(self) -> Family:
        """The same layout, small enough for a test."""
        unet, vae = {**self.unet, **TOY}, {**self.vae, **TOY}
        unet["block_out_channels"] = TOY["block_out_channels"][-len(self.unet["block_out_channels"]) :]
        if "transformer_layers_per_block" in unet:
            unet |= {"transformer_layers_per_block": [1, 1, 2], "attention_head_dim": [2, 4, 4]}
        return Family(64, unet, vae, self.vae_dtype)


FAMILIES = {
    "sd15": Family(512, SD15_UNET, {**VAE, "scaling_factor": 0.18215}),
    "sdxl": Family(1024, SDXL_UNET, {**VAE, "scaling_factor": 0.13025}, torch.float32),
}


@dataclass(frozen=True)
class Row:
    """The baseline or a mode at a batch size: UNet evaluations per sample, samples a second; both 0 without memory."""

    what: str
    batch: int
    evaluations: int
    speed: float


def networks(family: Family, dtype: torch.dtype, device: str) -> Networks:
    """Random networks, made on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        vae, unet = AutoencoderKL(**family.vae), UNet2DConditionModel(**family.unet)
    # The casts of diffusers warn of parts that should stay in float32, of which these have none.
    nn.Module.to(vae, family.vae_dtype or dtype)
    nn.Module.to(unet, dtype)
    return Networks(DDIMScheduler(**SCHEDULER), vae, unet, ())


def conditioning(family: Family, batch: int, dtype: torch.dtype, device: str) -> Prompts:
    """Random text states of the family's shape."""
    embeds = torch.randn(batch, TOKENS, family.unet["cross_attention_dim"], dtype=dtype, device=device)
    if "addition_embed_type" not in family.unet:
        return Prompts(embeds)
    sizes = torch.tensor([[family.side, family.side, 0, 0, family.side, family.side]], device=device).float()
    pooled = torch.randn(batch, POOLED, dtype=dtype, device=device)
    return Prompts(embeds, {"text_embeds": pooled, "time_ids": sizes.repeat(batch, 1)})


def produce(model: DiffusionModel, images: np.ndarray, prompts: Prompts, method: InversionConfig) -> int:
    """Encodes, inverts, resamples and decodes; returns UNet evaluations per sample."""
    conditions = Conditioning(prompts)
    net, schedule, clean = model.denoise, model.scheduler, model.encode(images)
    found = invert(
        net,
        schedule,
        clean,
        conditions,
        inversion_steps=INVERSION_STEPS,
        method=method,
        seeds=range(len(images)),
    )
    model.decode(resample(net, schedule, found.latents, conditions, inversion_steps=INVERSION_STEPS))
    return int(found.unet_rows[0]) + INVERSION_STEPS


def flops(family: Family) -> tuple[int, int]:
    """Floating-point operations, two per multiply-add: of one UNet evaluation, and of encoding and decoding once."""
    parts, prompts = networks(family, torch.float32, "meta"), conditioning(family, 1, torch.float32, "meta")
    latents = torch.empty(1, 4, family.side // 8, family.side // 8, device="meta")
    image = torch.empty(1, 3, family.side, family.side, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as once:
        timestep = torch.ones(1, device="meta")
        parts.unet(latents, timestep, prompts.embeds, added_cond_kwargs=prompts.added)
    with torch.no_grad(), FlopCounterMode(display=False) as both:
        parts.vae.encode(image)
        parts.vae.decode(latents)
    return once.get_total_flops(), both.get_total_flops()


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Mean time of `work` after what compiles and captures: two runs on a GPU, one on a CPU."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(2 if device == "cuda" else 1):
        work()
    wait()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    wait()
    return (time.perf_counter() - began) / repeats


def product_rate(side: int, dtype: torch.dtype, device: str) -> float:
    """Floating-point operations a second of a product of square matrices."""
    one, other = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    return 2 * side**3 / seconds(lambda: torch.mm(one, other), device, 20)


def measure(what: str, batch: int, work: Callable[[], int], device: str, repeats: int) -> Row:
    """Times a batch; a device without memory for it is a result too."""
    counted = []
    try:
        taken = seconds(lambda: counted.append(work()), device, repeats)
    except torch.OutOfMemoryError:
        return Row(what, batch, 0, 0.0)
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()
    return Row(what, batch, counted[-1], batch / taken)


def measure_all(family: Family, arguments: argparse.Namespace) -> list[Row]:
    """The baseline, then every mode at every batch size."""
    device, dtype, rows = arguments.device, DTYPES[arguments.dtype], []
    shape = (max(arguments.batches), family.side, family.side, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def run(model: DiffusionModel, what: str, batch: int, method: InversionConfig) -> None:
        prompts = conditioning(family, batch, model.dtype, device)
        work = lambda: produce(model, pixels[:batch], prompts, method)  # noqa: E731
        rows.append(measure(what, batch, work, device, arguments.repeats))

    precise = Family(family.side, family.unet, family.vae)
    plain = DiffusionModel.of("baseline", networks(precise, torch.float32, device), device=device)
    run(plain, "baseline", 1, InversionConfig(mode="published"))
    del plain
    parts = networks(family, dtype, device)
    for mode in (mode for mode in MODES if mode in arguments.modes):
        # A compiled network stays compiled, so eager comes first, and every mode compiles the same network anew.
        torch.compiler.reset()
        model = DiffusionModel.of(mode, parts, device=device, channels_last=True, compiled=mode == "compiled")
        if mode == "graphs":
            model.unet.compile(mode="reduce-overhead", dynamic=False, fullgraph=True)
        for batch in arguments.batches:
            run(model, mode, batch, InversionConfig(mode="fast"))
    return rows


def main(given: Sequence[str] | None = None) -> dict[str, list[Row]]:
    """Measures and prints; returns the rows by family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 32])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="tiny networks, to try the program itself")
    arguments = parser.parse_args(given)
    if arguments.dtype == "float32" and "graphs" in arguments.modes:
        parser.error(
            "graphs give their memory out and use it again; float32 is not copied out of it: leave one out"
        )
    fix_arithmetic(torch.get_num_threads())
    rate = product_rate(256 if arguments.toy else 8192, DTYPES[arguments.dtype], arguments.device)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    console.print(
        f"{name}, torch {torch.__version__}, {arguments.dtype}: matrix product {rate / 1e12:.3g} TFLOP/s; "
        "the baseline is float32, its convolutions in TF32 on a GPU"
    )
    found = {}
    for which in arguments.families:
        family = FAMILIES[which].toy() if arguments.toy else FAMILIES[which]
        once, both = flops(family)
        found[which] = rows = measure_all(family, arguments)
        table = Table(
            *("what", "batch", "UNet evaluations", "samples/s", "share of the product", "of the baseline"),
            title=f"{which}, {family.side} pixels, UNet {once / 1e12:.3g} TFLOP, VAE {both / 1e12:.3g} TFLOP",
        )
        for row in rows:
            if not row.speed:
                table.add_row(row.what, str(row.batch), "out of memory", "", "", "")
                continue
            share = row.speed * (row.evaluations * once + both) / rate
            ratio = f"{row.speed / rows[0].speed:.2f}x" if rows[0].speed else ""
            numbers = (str(row.batch), str(row.evaluations), f"{row.speed:.3g}", f"{share:.1%}", ratio)
            table.add_row(row.what, *numbers)
        console.print(table)
    return found


if __name__ == "__main__":
    main()
