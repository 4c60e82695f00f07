"""Inflating: ISA-L called directly, its Python interface, and zlib give the same bytes."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubekit.read import _decode, _isal
from cubekit.read._isal import DamagedError, inflate, inflate_portably
from cubekit.read._tiff import Level

DOORS = [inflate, inflate_portably]


def packed(text: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> memoryview:
    engine = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return memoryview(engine.compress(text) + engine.flush())


def texts() -> st.SearchStrategy[bytes]:
    walk = st.builds(
        lambda seed, size, step: np.cumsum(np.random.default_rng(seed).integers(-step, step + 1, size)).astype("<u2").tobytes(),
        st.integers(0, 2**32), st.integers(0, 40_000), st.integers(0, 300),
    )  # fmt: skip
    return st.one_of(st.binary(max_size=500), walk)


@pytest.mark.parametrize("door", DOORS)
@given(
    text=texts(), level=st.sampled_from([0, 1, 6, 9]), strategy=st.sampled_from([0, 1, 2, 3, 4]), share=st.floats(0, 1), cut=st.floats(0, 1)
)
def test_a_stream_gives_what_it_holds(door, text, level, strategy, share, cut):
    data = packed(text, level, strategy)
    want = int(share * len(text))
    whole = door(data, len(text))
    assert (bytes(whole.data), whole.used, whole.ended) == (text, len(data), True)
    part = door(data, want)
    assert bytes(part.data) == text[:want]
    assert bytes(door(data[: part.used], want).data) == text[:want], "what was used is enough"
    some = door(data[: int(cut * len(data))], len(text))
    assert bytes(some.data) == text[: len(some.data)]


@pytest.mark.parametrize("door", DOORS)
def test_the_end_is_told_from_more_to_come(door):
    text = bytes(range(200)) * 50
    data = packed(text)
    assert not door(data, len(text) - 1).ended
    assert door(memoryview(bytes(data) + b"tail"), len(text)).used == len(data)
    assert not door(data[:-1], len(text)).ended
    assert (bytes(door(memoryview(b""), 5).data), door(memoryview(b""), 5).ended) == (b"", False)


@pytest.mark.parametrize("door", DOORS)
def test_damage_is_an_error(door):
    text = np.random.default_rng(1).integers(0, 50, 20_000, np.uint8).tobytes()
    good = bytearray(packed(text))
    failed = 0
    for at in range(40, len(good), 97):
        bad = bytearray(good)
        bad[at] ^= 0xFF
        try:
            found = door(memoryview(bytes(bad)), len(text))
        except DamagedError:
            failed += 1
            continue
        assert len(found.data) <= len(text)
    assert failed
    with pytest.raises(DamagedError):
        door(memoryview(b"\x07" * 20), 100)  # a block of the reserved type


def test_threads_do_not_share_memory():
    streams = [np.random.default_rng(n).integers(0, 40, 30_000, np.uint8).tobytes() for n in range(40)]

    def work(text: bytes) -> bool:
        data = packed(text)
        return all(bytes(inflate(data, len(text)).data) == text for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, streams))


def test_large_results_are_not_kept(monkeypatch):
    monkeypatch.setattr(_isal, "_KEPT", 1000)

    def two() -> tuple[bytes, bytes]:
        first, second = inflate(packed(b"a" * 50_000), 50_000), inflate(packed(b"b" * 50_000), 50_000)
        return bytes(first.data), bytes(second.data)

    with ThreadPoolExecutor(1) as pool:  # a thread that has no memory yet
        assert pool.submit(two).result() == (b"a" * 50_000, b"b" * 50_000)


def test_a_library_that_answers_wrongly_is_not_used(monkeypatch):
    assert _isal._proven(inflate_portably)
    for wrong in (
        lambda data, want: inflate_portably(data, want)._replace(ended=False),
        lambda data, want: inflate_portably(data, max(want - 1, 0)),
        lambda data, want: _isal.Inflated(memoryview(bytes(want)), len(data), True),
    ):
        assert not _isal._proven(wrong)


@pytest.mark.parametrize("failing", [OSError, AttributeError])
def test_without_the_symbols_the_python_interface_serves(monkeypatch, failing):
    def missing(_: object) -> object:
        raise failing("no such symbol")

    monkeypatch.setattr(_isal, "_direct", missing)
    _isal._chosen.cache_clear()
    try:
        assert _isal._chosen() is inflate_portably
    finally:
        monkeypatch.undo()
        _isal._chosen.cache_clear()


def test_bytes_that_tiles_may_share_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncompressed tiles at one place of a file share what was received, and are decoded in two threads."""
    pixels = np.random.default_rng(1).integers(0, 65535, (8, 16), dtype="uint16")
    raw = np.diff(pixels, axis=1, prepend=np.uint16(0)).astype("<u2").tobytes()
    seen = []
    decode = _decode.delta_decode
    received = bytearray(raw)
    monkeypatch.setattr(_decode, "delta_decode", lambda *given, **how: seen.append(bytes(received)) or decode(*given, **how))
    for codec in ("none", "deflate"):
        level = Level(16, 8, 16, 8, 1, False, "u2", 16, codec, 2, "<", None)
        out = np.zeros((6, 5), "uint16")
        _decode.crop(level, memoryview(received), 0, (1, 7), (4, 9), 0, out)
        np.testing.assert_array_equal(out, pixels[1:7, 4:9])
        assert bytes(received) == raw
    assert seen[0] == raw
    assert seen[1] != raw  # a thread's own memory: one pass over the pixels less
