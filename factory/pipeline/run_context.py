"""What every worker of a run knows about the run, whatever its stage does. Plain data, sent to each worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from factory.output.identity import Identity


@dataclass(frozen=True)
class RunContext:
    """A run, as its workers see it.

    Attributes:
        url: of the output.
        identity: of the output, as the driver resolved it.
        weights: models by role, as `Identity.models` names the roles: name, and revision of a hub id.
        devices: `cuda` or `cpu` by role.
        same_hardware: whether all workers must have the hardware class of the output's first shard.
        code: folders beside those of every build whose code decides bytes, such as `eval/predict`. Their digest is
            the version `eval` of the identity.
        run: holds the lock of the output; see `factory.store.fence`.
    """

    url: str
    identity: Identity
    weights: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    same_hardware: bool = False
    code: tuple[str, ...] = ()
    run: str = ""
