"""What the identity of a shard requires of its samples."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.errors import OutputError
from factory.output.identity import Identity
from factory.output.shards.further import JUDGED, Further
from factory.output.shards.images import LARGEST_SIDE
from factory.output.shards.records import MEMBERS
from factory.output.shards.sample_json import Share


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Source(_Section):
    size: int = Field(ge=1, le=LARGEST_SIDE)


class _Regions(_Section):
    kind: str
    smallest_area: Share
    largest_area: Share
    share: Share = 1.0


class _Judge(_Section):
    every_region: bool


class _Corruption(_Section):
    method: str
    inference_steps: int = Field(ge=1)


class _Verify(_Section):
    least_inside: Share
    most_outside: Share
    on_failure: str
    judge: _Judge | None = None


class _Output(_Section):
    original: bool


class _Content(_Section):
    source: _Source
    regions: _Regions
    corruption: _Corruption
    verify: _Verify
    output: _Output


@dataclass(frozen=True)
class MadeBy:
    """What the samples of a shard must agree with.

    Attributes:
        digest: of the identity.
        size: side of all images in pixels.
        method, inference_steps: of the corruption.
        clean: whether the samples are clean negatives, whose masks are empty.
        smallest_area, largest_area: share of the image that a mask covers otherwise.
        least_inside, most_outside: what a verified sample keeps to.
        keeps_failures: whether samples that failed the verifier are kept.
        further: what its samples have beside the usual.
        every_region: whether a judge must find an artifact in every region of a verified sample.
        members: files of every sample, in order.
    """

    digest: str
    size: int
    method: str
    inference_steps: int
    clean: bool
    smallest_area: float
    largest_area: float
    least_inside: float
    most_outside: float
    keeps_failures: bool
    further: Further
    every_region: bool
    members: tuple[str, ...]

    @classmethod
    def of(cls, identity: Identity, url: str) -> MadeBy:
        """Reads an identity's content. `url` names the output in messages.

        Raises:
            OutputError: the content is not that of a recipe.
        """
        try:
            content = _Content.model_validate(dict(identity.content))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("content", *first["loc"])))
            raise OutputError(f"{url}: identity.json is damaged: {where}: {first['msg']}") from error
        further = Further(content.verify.judge is not None, content.regions.share < 1)
        without = {
            *(() if content.output.original else ("original.png",)),
            *(() if further.judge else (JUDGED,)),
        }
        return cls(
            digest=identity.digest,
            size=content.source.size,
            method=content.corruption.method,
            inference_steps=content.corruption.inference_steps,
            clean=content.regions.kind == "none",
            smallest_area=content.regions.smallest_area,
            largest_area=content.regions.largest_area,
            least_inside=content.verify.least_inside,
            most_outside=content.verify.most_outside,
            keeps_failures=content.verify.on_failure == "keep",
            further=further,
            every_region=content.verify.judge is not None and content.verify.judge.every_region,
            members=tuple(name for name in MEMBERS if name not in without),
        )
