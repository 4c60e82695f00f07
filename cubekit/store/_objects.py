"""A tree as the objects of a Zarr v3 store: metadata documents, and arrays that are cut into chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numcodecs
import numpy as np
import xarray as xr
from xarray.conventions import CF_RELATED_DATA, encode_cf_variable

from cubekit.errors import InputError
from cubekit.layout import DIGEST, FORMAT, FORMAT_VERSION, chunk_key, chunk_shape
from cubekit.location import Location
from cubekit.typing import JSON

__all__ = ["Array", "Objects", "describe_objects", "read_array", "root_document"]

_LEVEL = 2
# Numbers are shuffled by bytes; flags, which have one byte each, by bits.
_BLOSC = numcodecs.Blosc(cname="zstd", clevel=_LEVEL, shuffle=numcodecs.Blosc.AUTOSHUFFLE)
_ZSTD = numcodecs.Zstd(level=5)
_VLEN = numcodecs.VLenUTF8()

Region = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """One array of a store.

    Parameters
    ----------
    path
        Below the root, such as ``"climate/t2m_mean"``.
    variable
        Encoded values, in memory, memory-mapped or lazy.
    chunks
        Shape of the chunks.
    fill
        Value that pads the last chunks.
    separator
        Between the parts of a chunk's key: with ``"."`` a chunk needs no folders of its own.
    """

    path: str
    variable: xr.Variable
    chunks: tuple[int, ...]
    fill: Any
    separator: str = "."

    def regions(self) -> Iterator[tuple[str, Region]]:
        """Key and index of every chunk, in order."""
        counts = [range(-(-size // chunk)) for size, chunk in zip(self.variable.shape, self.chunks, strict=True)]
        for index in itertools.product(*counts):
            region = tuple(
                slice(i * chunk, min((i + 1) * chunk, size)) for i, chunk, size in zip(index, self.chunks, self.variable.shape, strict=True)
            )
            yield self.key(region), region

    def key(self, region: Region) -> str:
        """Key of the chunk that starts where `region` starts."""
        index = (part.start // chunk for part, chunk in zip(region, self.chunks, strict=True))
        return f"{self.path}/{chunk_key(index, self.separator)}"

    def encode(self, values: Any) -> bytes:
        """Bytes of one chunk; a chunk at the edge is padded to full size."""
        block = np.asarray(values)
        if block.shape != self.chunks:
            padded = np.full(self.chunks, self.fill, dtype=block.dtype)
            padded[tuple(slice(0, size) for size in block.shape)] = block
            block = padded
        if block.dtype.kind == "O":
            return bytes(_ZSTD.encode(_VLEN.encode(block.ravel())))
        native = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<"))
        return bytes(_BLOSC.encode(native))


def read_array(location: Location, path: str, document: JSON) -> xr.Variable:
    """Values of one numeric array of a cube that `write_cube` made, read by hand: opening the whole cube would take ten times as long."""
    shape, chunks = tuple(document["shape"]), tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    dtype = np.dtype(document["data_type"])
    fill = document["fill_value"]
    values = np.full(shape, np.nan if fill == "NaN" else fill, dtype)
    separator = document["chunk_key_encoding"]["configuration"]["separator"]
    array = Array(path, xr.Variable(document["dimension_names"], values), chunks, fill, separator)
    for key, region in array.regions():
        if (data := location.get(key)) is not None:
            block = np.frombuffer(_BLOSC.decode(data), dtype.newbyteorder("<")).reshape(chunks)
            values[region] = block[tuple(slice(0, part.stop - part.start) for part in region)]
    return xr.Variable(document["dimension_names"], values, document["attributes"])


@dataclass(frozen=True, slots=True)
class Objects:
    """All objects of a cube but the root's metadata: documents by key, arrays, and the attributes of the root."""

    documents: Mapping[str, JSON]
    arrays: tuple[Array, ...]
    root_attrs: Mapping[str, Any]


_CALENDAR = "proleptic_gregorian"
_UNITS = {f"{name} since 1970-01-01": unit for name, unit in (("days", "D"), ("seconds", "s"), ("milliseconds", "ms"))}


def describe_objects(tree: xr.DataTree) -> Objects:
    """Plan the objects of a tree; nothing is computed or written.

    Raises
    ------
    InputError
        For attributes or types that a store cannot hold.
    """
    documents: dict[str, JSON] = {}
    arrays: list[Array] = []
    root_attrs: dict[str, Any] = {}
    for node in tree.subtree:
        prefix = node.path.strip("/")
        variables, attrs = _with_coordinates(node.to_dataset(inherit=False))
        for name, variable in variables.items():
            array = _array(f"{prefix}/{name}".lstrip("/"), variable)
            arrays.append(array)
            documents[f"{array.path}/zarr.json"] = _array_document(array)
        if prefix:
            documents[f"{prefix}/zarr.json"] = {"zarr_format": 3, "node_type": "group", "attributes": _attributes(attrs, prefix)}
        else:
            root_attrs = {key: value for key, value in _attributes(attrs, "/").items() if key not in (FORMAT, DIGEST)}
    return Objects(documents, tuple(arrays), root_attrs)


def _with_coordinates(ds: xr.Dataset) -> tuple[dict[str, xr.Variable], dict[Any, Any]]:
    """Variables that name the coordinates along their dims, and attributes that name those along no variable's, as in xarray's stores.

    What other CF attributes name already, such as a grid mapping kept in an encoding, is named there only.
    """
    variables = {str(name): variable.copy(deep=False) for name, variable in ds.variables.items()}
    beside = sorted({str(name) for name in ds.coords} - {str(dim) for dim in ds.dims})
    related = " ".join(str(v.encoding[key]) for v in variables.values() for key in CF_RELATED_DATA if key in v.encoding)
    free = [name for name in beside if name not in related]
    unnamed = set(free)
    for name, variable in variables.items():
        own = [other for other in free if set(variables[other].dims) <= set(variable.dims)] if name not in (*beside, *variable.dims) else []
        named = variable.encoding.pop("coordinates", None) or variable.attrs.get("coordinates") or " ".join(own)
        if named:
            variable.attrs["coordinates"] = named
            unnamed -= set(named.split())
    return variables, {**ds.attrs, "coordinates": " ".join(sorted(unnamed))} if unnamed else dict(ds.attrs)


def root_document(objects: Objects, digest: str | None) -> JSON:
    """Metadata of the root: its attributes, the marks of a committed cube, and all other metadata, so that one request opens a cube."""
    marks = {FORMAT: FORMAT_VERSION, DIGEST: digest} if digest else {}
    consolidated = {key.removesuffix("/zarr.json"): document for key, document in sorted(objects.documents.items())}
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {**objects.root_attrs, **marks},
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": consolidated},
    }


def _array(path: str, variable: xr.Variable) -> Array:
    if variable.dtype.kind == "f":
        variable = variable.copy(deep=False)
        variable.encoding = {"_FillValue": None, **variable.encoding}
    if variable.dtype.kind in "UTS":
        variable = xr.Variable(variable.dims, variable.values.astype(object), variable.attrs)
    encoded = variable if variable.dtype.kind == "O" else _times(variable)
    if encoded is None:
        encoded = encode_cf_variable(variable, name=path)
    if encoded.dtype.kind not in "iufb" and encoded.dtype.kind != "O":
        raise InputError(f"{path} has type {encoded.dtype}, which a cube cannot hold", remedy="Give numbers, text, times or truth values")
    fill = encoded.attrs.get("_FillValue", _default_fill(encoded.dtype))
    if encoded.dtype.kind == "f":
        encoded.attrs.pop("_FillValue", None)
    return Array(path, encoded, chunk_shape(encoded.dims, encoded.shape), fill)


def _times(variable: xr.Variable) -> xr.Variable | None:
    """Whole numbers of a unit, as xarray makes them by a long way through pandas; None for what is no such times."""
    units = {"units", "calendar", "dtype", "_FillValue"}
    unit = _UNITS.get(variable.encoding.get("units", ""))
    if variable.dtype.kind != "M" or unit is None or set(variable.encoding) != units or variable.encoding["calendar"] != _CALENDAR:
        return None
    times = variable.values
    whole = times.astype(f"datetime64[{unit}]")
    if variable.encoding["dtype"] != "int64" or variable.encoding["_FillValue"] is not None or not (whole == times).all():
        return None
    attrs = {**variable.attrs, "units": variable.encoding["units"], "calendar": _CALENDAR}
    return xr.Variable(variable.dims, whole.astype(np.int64), attrs)


def _default_fill(dtype: np.dtype) -> Any:
    return {"f": np.nan, "O": ""}.get(dtype.kind, 0)


def _array_document(array: Array) -> JSON:
    text = array.variable.dtype.kind == "O"
    size = array.variable.dtype.itemsize
    shuffle = "shuffle" if size > 1 else "bitshuffle"
    blosc = {"typesize": size, "cname": "zstd", "clevel": _LEVEL, "shuffle": shuffle, "blocksize": 0}
    number = [
        {"name": "bytes", "configuration": {"endian": "little"}} if size > 1 else {"name": "bytes"},
        {"name": "blosc", "configuration": blosc},
    ]
    strings = [{"name": "vlen-utf8"}, {"name": "zstd", "configuration": {"level": _ZSTD.level, "checksum": False}}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.variable.shape),
        "data_type": "string" if text else array.variable.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(array.chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": array.separator}},
        "fill_value": _json_fill(array.fill, array.variable.dtype),
        "codecs": strings if text else number,
        "attributes": _attributes(array.variable.attrs, array.path),
        "dimension_names": [str(dim) for dim in array.variable.dims],
        "storage_transformers": [],
    }


def _json_fill(fill: Any, dtype: np.dtype) -> Any:
    if dtype.kind == "f":
        return "NaN" if np.isnan(fill) else float(fill)
    if dtype.kind == "b":
        return bool(fill)
    return str(fill) if dtype.kind == "O" else int(fill)


def _attributes(attrs: Mapping[Any, Any], where: str) -> JSON:
    result = {}
    for key, value in attrs.items():
        value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        items = value if isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(item, (str, int, float)) and item == item for item in items):
            raise InputError(
                f"Attribute {key!r} of {where} is {type(value).__name__} {str(value)[:80]!r}, which not every format can hold",
                remedy="Use text, finite numbers or lists of them, for example JSON text",
            )
        result[str(key)] = list(value) if isinstance(value, tuple) else value
    return result
