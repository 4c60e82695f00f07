"""Pixels: small windows out of remote rasters, as fast as the network and the decoders allow, every asset with a status."""

from __future__ import annotations

from cubekit.read._api import forget_headers, known_versions, plan_reads, read_assets, read_many
from cubekit.read._bytes import read_bytes
from cubekit.read._journal import Journal
from cubekit.read._lazy import lazy_stack
from cubekit.read._native import NativeWindow, read_native
from cubekit.read._types import AssetOutcome, AssetRead, Engine, Progress, ReadOptions, ReadPlan, ReadStatus, Sign, Signer

__all__ = [
    "AssetOutcome",
    "AssetRead",
    "Engine",
    "Journal",
    "NativeWindow",
    "Progress",
    "ReadOptions",
    "ReadPlan",
    "ReadStatus",
    "Sign",
    "Signer",
    "forget_headers",
    "known_versions",
    "lazy_stack",
    "plan_reads",
    "read_assets",
    "read_bytes",
    "read_many",
    "read_native",
]
