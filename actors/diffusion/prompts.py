"""Text conditioning: prompts as the states that a UNet attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prompts:
    """Text conditioning, one row per sample.

    Attributes:
        embeds: text states [B, tokens, width].
        added: of SDXL, the UNet's `added_cond_kwargs`: `text_embeds` [B, P], the pooled text, and `time_ids` [B, 6],
            which are (height, width, 0, 0, height, width) in pixels. None of other families.
    """

    embeds: Tensor
    added: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.embeds)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> Prompts:
        """The same rows of everything."""
        added = self.added
        return Prompts(self.embeds[rows], added and {name: value[rows] for name, value in added.items()})

    def repeat(self, count: int) -> Prompts:
        """One row as `count` equal rows.

        Raises:
            ValueError: there is more than one row, or none.
        """
        if len(self) != 1:
            raise ValueError(f"there are {len(self)} rows; one can be repeated")
        return self[[0] * count]

    @staticmethod
    def cat(parts: Sequence[Prompts]) -> Prompts:
        """The rows of all parts, one after the other.

        Raises:
            ValueError: no parts, or parts of different families.
        """
        kinds = {None if part.added is None else tuple(sorted(part.added)) for part in parts}
        if len(kinds) != 1:
            raise ValueError(f"{len(parts)} parts of {len(kinds)} families; give parts of one")
        first = parts[0].added
        added = first and {
            name: torch.cat([part.added[name] for part in parts if part.added is not None]) for name in first
        }
        return Prompts(torch.cat([part.embeds for part in parts]), added)


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP tokenizer and its network.

    Attributes:
        part: the network's folder, such as `text_encoder_2`.
        tokenizer: a `CLIPTokenizer`.
        network: a `CLIPTextModel` or a `CLIPTextModelWithProjection`.
    """

    part: str
    tokenizer: Any
    network: Any

    @property
    def length(self) -> int:
        """Tokens of every prompt."""
        return int(min(self.tokenizer.model_max_length, self.network.config.max_position_embeddings))

    def __call__(self, prompts: list[str], *, device: torch.device) -> Any:
        """The network's output on prompts, padded or cut to its full length, with all hidden states."""
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        return self.network(tokens.input_ids.to(device), output_hidden_states=True)


def encode(
    encoders: Sequence[TextEncoder],
    prompts: list[str],
    *,
    device: torch.device,
    size: tuple[int, int] | None = None,
) -> Prompts:
    """Text conditioning as each family was trained with it; an empty prompt is a prompt.

    SD 1.x and 2.x take the last states of their one encoder. SDXL takes the states before the last layer of both,
    side by side, and the pooled output of the second (Podell et al. 2023, section 2.1). An empty prompt is embedded
    like any other; diffusers' SDXL pipelines put zeros in its place where no negative prompt is given at all.

    Args:
        encoders: one for SD 1.x and 2.x, two for SDXL.
        prompts: one per sample.
        device: where the encoders are.
        size: (height, width) of the images in pixels, which SDXL is passed as those of an uncropped image.

    Raises:
        ValueError: no `size` for SDXL.
    """
    outputs = [encoder(prompts, device=device) for encoder in encoders]
    if len(outputs) == 1:
        return Prompts(outputs[0].last_hidden_state)
    if size is None:
        raise ValueError("SDXL is conditioned on the size of the images; give size=(height, width)")
    embeds = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    time_ids = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32, device=device)
    return Prompts(
        embeds, {"text_embeds": outputs[-1].text_embeds, "time_ids": time_ids.repeat(len(prompts), 1)}
    )
