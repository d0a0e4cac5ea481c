"""An output on disk or in a bucket: plan, versions, identity, provenance, manifest, card, lock, shards.

`layout` names its folders. The layout is described in docs/growing.md and docs/reading-shards.md.
"""
