"""Checks of the store itself: committed, complete, unchanged, encoded as agreed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from cubekit.cube._problem import Problem, Subject, error, warning
from cubekit.layout import DIGEST, FILL, FORMAT, FORMAT_VERSION, ROOT_KEY, SCALE, chunk_key, chunk_shape, digest_of, is_band, metadata_hash
from cubekit.location import stored_hashes
from cubekit.typing import JSON

__all__ = ["check_chunks", "check_committed", "check_complete", "check_packing"]


def check_committed(subject: Subject) -> Iterator[Problem]:
    """The root carries the marks that are written last."""
    if subject.root is None:
        return
    attrs = subject.root.get("attributes", {})
    if attrs.get(FORMAT) != FORMAT_VERSION:
        yield error(
            f"/@{FORMAT}", f"the layout is {attrs.get(FORMAT)!r}, not {FORMAT_VERSION!r}", "Update cubekit, or build the cube again"
        )
    if not str(attrs.get(DIGEST, "")).startswith("sha256:"):
        yield error(f"/@{DIGEST}", "the mark of a committed cube is missing", "Build the cube again; this one was not finished by cubekit")
    if "consolidated_metadata" not in subject.root:
        yield warning("/", "the root does not repeat the metadata of its arrays, so opening takes many requests")


def check_complete(subject: Subject) -> Iterator[Problem]:
    """Every chunk and document is there and unchanged; nothing else is."""
    location = subject.location
    if location is None or subject.root is None or location.scheme in ("http", "https"):
        return
    hashes = stored_hashes(location)
    consolidated = subject.root.get("consolidated_metadata", {}).get("metadata", {})
    documents = {path: document for path, document in subject.documents.items() if path}
    chunks: dict[str, str] = {}
    for path, document in consolidated.items():
        if path not in documents:
            yield error(f"/{path}", "its metadata document is missing")
        elif metadata_hash(documents[path]) != metadata_hash(document):
            yield error(f"/{path}", "its metadata differs from what the root says of it")
        if document.get("node_type") == "array":
            chunks |= {f"{path}/{key}": path for key in _chunk_keys(document)}
    expected = {ROOT_KEY, *(f"{path}/{ROOT_KEY}" for path in consolidated), *chunks}
    changed = digest_of(hashes) != subject.root.get("attributes", {}).get(DIGEST)
    if missing := sorted(set(chunks) - set(hashes)):
        yield error(f"/{chunks[missing[0]]}", f"{len(missing)} chunks are missing, the first is {missing[0]}")
    elif extra := sorted(set(hashes) - expected):
        yield error(f"/{extra[0]}", f"{len(extra)} objects do not belong to the cube", "Remove them")
    elif changed:
        yield error(f"/@{DIGEST}", "the content is not what was committed: a chunk or attribute was changed")


def _chunk_keys(document: JSON) -> Iterator[str]:
    shape = document["chunk_grid"]["configuration"]["chunk_shape"]
    counts = [range(math.ceil(size / chunk)) for size, chunk in zip(document["shape"], shape, strict=True)]
    separator = document["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
    return (chunk_key(index, separator) for index in itertools.product(*counts))


def check_chunks(subject: Subject) -> Iterator[Problem]:
    """Whole tiles, many steps, blosc-zstd with a shuffle."""
    for path, document in subject.documents.items():
        if document.get("node_type") != "array" or not document["shape"]:
            continue
        dims = document.get("dimension_names") or []
        shape, chunks = tuple(document["shape"]), tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
        if len(dims) != len(shape):
            yield error(f"/{path}", f"{len(shape)} axes, but the dimension names {dims}")
            continue
        wanted = chunk_shape(dims, shape)
        if len(shape) > 2 and shape[0] > 1 and chunks[0] == 1:
            yield error(f"/{path}", f"chunks {chunks} hold one step each", f"Write it in chunks of {wanted}")
        elif chunks != wanted:
            yield warning(f"/{path}", f"chunks are {chunks}, not {wanted}", "Write it again with cubekit")
        if len(shape) > 1 and not _well_compressed(document["codecs"]):
            yield warning(f"/{path}", f"compressed by {[codec['name'] for codec in document['codecs']]}", "Use blosc-zstd with a shuffle")


def _well_compressed(codecs: list[dict[str, Any]]) -> bool:
    blosc = [codec.get("configuration", {}) for codec in codecs if codec["name"] == "blosc"]
    text = any(codec["name"] == "vlen-utf8" for codec in codecs)
    return text or any(one.get("cname") == "zstd" and one.get("shuffle") != "noshuffle" for one in blosc)


def check_packing(subject: Subject) -> Iterator[Problem]:
    """Reflectance is int16 of scale 1e-4 and fill -32768, or float."""
    for name, variable in subject.imagery.data_vars.items():
        if variable.attrs.get("standard_name") != "surface_bidirectional_reflectance" or not is_band(variable):
            continue
        if variable.dtype.kind == "f":
            continue
        scale, fill = variable.attrs.get("scale_factor"), variable.attrs.get("_FillValue")
        if variable.dtype != "int16" or scale is None or not math.isclose(float(scale), SCALE) or fill != FILL:
            what = f"reflectance is {variable.dtype} with scale {scale} and fill {fill}"
            yield error(f"/{name}", what, f"Pack it as int16 with scale {SCALE:g} and fill {FILL}, or as float32")
