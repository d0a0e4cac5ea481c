"""What a UNet is conditioned on beside the latents: prompts and classifier-free guidance, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from actors.diffusion.prompts import Prompts


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The prompts of a batch and how they are guided, one row per sample.

    Attributes:
        prompts: text conditioning.
        unconditional: that of the prompt from which guidance leads away; required with guidance, ignored without.
        guidance_scale: of classifier-free guidance; 1 disables it. Above 1 every evaluation counts two rows.

    Raises:
        ValueError: guidance without unconditional prompts, or with prompts of another family.
    """

    prompts: Prompts
    unconditional: Prompts | None = None
    guidance_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.guided:
            return
        if self.unconditional is None:
            raise ValueError(
                f"guidance_scale is {self.guidance_scale}: unconditional prompts are required with it"
            )
        own, other = (sorted(prompts.added or {}) for prompts in (self.prompts, self.unconditional))
        if own != other:
            raise ValueError(
                f"prompts.added has {own}, unconditional.added has {other}; guidance needs the same in both"
            )

    @property
    def guided(self) -> bool:
        """Whether the unconditional prompts are evaluated, too."""
        return self.guidance_scale > 1

    @property
    def evaluated(self) -> Prompts:
        """The prompts of one UNet evaluation: with guidance [2 B, ...], the unconditional rows first."""
        if not self.guided:
            return self.prompts
        assert self.unconditional is not None
        return Prompts.cat([self.unconditional, self.prompts])

    @property
    def rows(self) -> dict[str, Tensor]:
        """Every tensor that an evaluation depends on, [B, ...] each, by its name in messages."""
        found = _named("prompts", self.prompts)
        if self.guided:
            assert self.unconditional is not None
            found |= _named("unconditional", self.unconditional)
        return found

    def __getitem__(self, rows: Tensor | list[int]) -> Conditioning:
        """The same rows of everything, in this order; unconditional prompts that are not evaluated are dropped."""
        unconditional = self.unconditional if self.guided else None
        return Conditioning(
            self.prompts[rows], None if unconditional is None else unconditional[rows], self.guidance_scale
        )

    def check(self, count: int) -> None:
        """Checks that there is one row for each of `count` latents.

        Raises:
            ValueError: which tensor has another number of rows.
        """
        for name, value in self.rows.items():
            if len(value) != count:
                raise ValueError(f"{len(value)} rows of {name} for {count} latents")


def _named(name: str, prompts: Prompts) -> dict[str, Tensor]:
    added = prompts.added or {}
    return {f"{name}.embeds": prompts.embeds} | {f"{name}.added[{key!r}]": added[key] for key in added}
