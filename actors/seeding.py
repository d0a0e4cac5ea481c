"""Every random draw comes from a stable hash of (run seed, sample key, stage, draw number).

Corruption methods do not draw: they are given noise that was drawn here.
"""

from __future__ import annotations

from hashlib import blake2b


def seed_for(run_seed: int, key: str, stage: str, draw: int = 0) -> int:
    """A seed in [0, 2**63) that depends on nothing but the arguments, on every machine and Python."""
    text = f"{run_seed}\x1f{key}\x1f{stage}\x1f{draw}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1
