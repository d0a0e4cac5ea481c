"""Pre-trains tinytown's part segmenters, the stand-ins for UperNets trained on ADE20K.

`python -m tools.tinytown.segmenter --out DIR --kind convnext` resumes where it was stopped and writes
`DIR/segmenter-convnext`. Half of the images have gone through the autoencoder, like those that region selectors get.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from transformers import ConvNextConfig, SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

from actors.models import fingerprint
from tinytown.render import PARTS, render
from tinytown.scene import SIZE, sample_scene
from tools.tinytown.data import HELD_OUT
from tools.tinytown.plain_training import FineTuning, fine_tune, normalise, save
from tools.tinytown.vae import tensor

log = logging.getLogger(__name__)

KINDS = ("convnext", "swin")
SCENES = 12_000
TESTED = 200
_STAGES = ["stage1", "stage2", "stage3", "stage4"]


def build(kind: str) -> UperNetForSemanticSegmentation:
    """An untrained UperNet for 64x64 images, below 2 million weights; stages at strides 2, 4, 8 and 16."""
    backbones = {
        "convnext": lambda: ConvNextConfig(
            patch_size=2,
            hidden_sizes=[32, 64, 128, 192],
            depths=[2, 2, 4, 2],
            # The usual 1e-6 wants hundreds of epochs before a block counts.
            layer_scale_init_value=0.1,
            out_features=_STAGES,
        ),
        "swin": lambda: SwinConfig(
            image_size=SIZE,
            patch_size=2,
            window_size=4,
            embed_dim=18,
            depths=[2, 2, 2, 2],
            num_heads=[1, 2, 4, 8],
            drop_path_rate=0.0,
            out_features=_STAGES,
        ),
    }
    return UperNetForSemanticSegmentation(
        UperNetConfig(
            backbone_config=backbones[kind](),
            hidden_size=64,
            # The last stage is 4x4 cells: scales of 3 and 6 would split them.
            pool_scales=[1, 2],
            use_auxiliary_head=False,
            id2label=dict(enumerate(PARTS)),
            label2id={part: number for number, part in enumerate(PARTS)},
        )
    )


def drawn_scenes(
    first_seed: int, count: int, vae: AutoencoderKL | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Renders of consecutive seeds; with an autoencoder, those of odd seeds have gone through it.

    Returns:
        Images, uint8 [N, 64, 64, 3], and part numbers, uint8 [N, 64, 64].
    """
    drawn = [render(sample_scene(seed)) for seed in range(first_seed, first_seed + count)]
    images, parts = np.stack([one.image for one in drawn]), np.stack([one.parts for one in drawn])
    if vae is not None:
        odd = (first_seed + 1) % 2
        images[odd::2] = round_trip(vae, images[odd::2])
    return images, parts


@torch.no_grad()
def round_trip(vae: AutoencoderKL, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images, uint8 [N, H, W, 3], encoded (the posterior's mode) and decoded."""
    rows = []
    for first in range(0, len(images), 50):
        batch = tensor(images[first : first + 50]).contiguous(memory_format=torch.channels_last)
        back = vae.decode(vae.encode(batch).latent_dist.mode()).sample
        pixels = ((back.clamp(-1, 1) + 1) * 127.5).round().byte()
        rows.append(pixels.permute(0, 2, 3, 1).contiguous().numpy())
    return np.concatenate(rows)


@torch.no_grad()
def mean_iou(
    net: UperNetForSemanticSegmentation, images: NDArray[np.uint8], parts: NDArray[np.uint8]
) -> float:
    """Mean over all parts of the IoU pooled over images; parts that occur nowhere are left out."""
    classes = len(PARTS)
    table = np.zeros((classes, classes), np.int64)
    for first in range(0, len(images), 20):
        pixels = torch.from_numpy(images[first : first + 20]).permute(0, 3, 1, 2).float() / 255
        found = net(normalise(pixels)).logits.argmax(1).numpy()
        pairs = parts[first : first + 20].astype(np.int64) * classes + found
        table += np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)
    both = np.diag(table)
    either = table.sum(0) + table.sum(1) - both
    return float((both[either > 0] / either[either > 0]).mean())


def train(out: Path, kind: str, settings: FineTuning) -> None:
    """Trains from `out/vae`; state in `out/segmenter-state-KIND`, result in `out/segmenter-KIND`."""
    vae = AutoencoderKL.from_pretrained(out / "vae").eval().to(memory_format=torch.channels_last)
    images, parts = _cached(out, vae)
    torch.manual_seed(settings.seed)
    net = build(kind)
    log.info("%s: %.2f million weights", kind, sum(one.numel() for one in net.parameters()) / 1e6)
    began, losses = time.monotonic(), []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % 50 == 0:
            speed = len(losses) / (time.monotonic() - began)
            log.info("step %d loss %.4f %.2f steps/s", step, np.mean(losses[-50:]), speed)

    fine_tune(net, images, parts, settings, report=report, state=out / f"segmenter-state-{kind}")
    save(net, out / f"segmenter-{kind}")
    images, parts = drawn_scenes(HELD_OUT, TESTED)
    log.info(
        "held out: mean IoU over parts %.3f of renders, %.3f of renders through the autoencoder",
        mean_iou(net, images, parts),
        mean_iou(net, round_trip(vae, images), parts),
    )


def _cached(out: Path, vae: AutoencoderKL) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    digest = fingerprint(str(out / "vae")).split("@")[1]
    path = out / "data" / f"parts-0-{SCENES}-{digest}.npz"
    if not path.exists():
        log.info("drawing %d scenes", SCENES)
        images, parts = drawn_scenes(0, SCENES, vae)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A kill while writing must not leave half a file under the final name.
        aside = path.with_suffix(".tmp.npz")
        np.savez(aside, images=images, parts=parts)
        aside.replace(path)
    with np.load(path) as stored:
        return stored["images"], stored["parts"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="work folder: holds vae/; state and result go there"
    )
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    train(
        arguments.out,
        arguments.kind,
        FineTuning(
            learning_rate=1.5e-3,
            iterations=arguments.steps,
            batch=16,
            warm_up=100,
            colour=0.05,
            seed=arguments.seed,
            bf16=True,
        ),
    )
