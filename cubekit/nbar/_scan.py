"""One pass over the bytes of a granule's metadata: well-formedness, the angle grids, and where the few texts stand.

A small XML scanner in numba, because a 7-detector file holds 97,000 numbers in 600 kB. It accepts what ESA writes (elements, attributes,
comments, an XML declaration, UTF-8 without entities in what is read) and refuses every document type declaration, entity definition,
CDATA section, mismatched tag, and end of file within the root element.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["ERRORS", "GRID_ATTRIBUTES", "NODES", "TEXTS", "WORDS", "scan", "words_of"]

NODES = 23
MAX_DEPTH = 64

WORDS = (
    "VALUES",
    "Sun_Angles_Grid",
    "Viewing_Incidence_Angles_Grids",
    "Zenith",
    "Azimuth",
    "COL_STEP",
    "ROW_STEP",
    "Mean_Sun_Angle",
    "Mean_Viewing_Incidence_Angle",
    "ZENITH_ANGLE",
    "AZIMUTH_ANGLE",
    "TILE_ID",
    "SENSING_TIME",
    "HORIZONTAL_CS_CODE",
    "ULX",
    "ULY",
)
(VALUES, SUN_GRID, VIEW_GRID, ZENITH, AZIMUTH, COL_STEP, ROW_STEP, MEAN_SUN, MEAN_VIEW, ZENITH_ANGLE, AZIMUTH_ANGLE, FIRST_TEXT) = range(12)

TEXTS = WORDS[FIRST_TEXT:]
GRID_ATTRIBUTES = ("band_id", "detector_id", "zenith_rows", "azimuth_rows", "zenith_ok", "azimuth_ok", "start")

OK, ERR_DECLARATION, ERR_TAG, ERR_MISMATCH, ERR_TRUNCATED, ERR_NUMBER, ERR_DEPTH, ERR_AFTER, ERR_TOO_MANY, ERR_CHARACTER = range(10)
ERRORS = {
    ERR_DECLARATION: "a document type, entity or CDATA declaration, which granule metadata never has",
    ERR_TAG: "a malformed tag",
    ERR_MISMATCH: "an end tag that does not match its start tag",
    ERR_TRUNCATED: "the file ends before its root element does (truncated download?)",
    ERR_NUMBER: "a malformed number in an angle grid",
    ERR_DEPTH: f"elements nested deeper than {MAX_DEPTH}",
    ERR_AFTER: "content outside the root element",
    ERR_TOO_MANY: "more angle grids than 13 bands x 12 detectors x 2",
    ERR_CHARACTER: "a NUL byte (no UTF-8 text?)",
}

FNV_OFFSET = np.uint64(14695981039346656037)
FNV_PRIME = np.uint64(1099511628211)


def _fnv(word: str) -> int:
    value = int(FNV_OFFSET)
    for byte in word.encode():
        value = ((value ^ byte) * int(FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return value


WORD_HASHES = np.array([_fnv(word) for word in WORDS], dtype=np.uint64)

POWERS = 10.0 ** np.arange(23)


def _eight(text: bytes) -> np.uint64:
    """Eight bytes as the little-endian word that stands at each position of `words_of`."""
    return np.uint64(int.from_bytes(text, "little"))


NAN_PAIR = _eight(b"NaN NaN ")
SPACES = _eight(b" " * 8)
OPEN_VALUES = _eight(b"<VALUES>")
CLOSE_VALUES = _eight(b"</VALUES")
LESS = _eight(b"<" * 8)
ZEROS = _eight(b"0" * 8)
ONES = np.uint64(0x0101010101010101)
TOPS = np.uint64(0x8080808080808080)
BELOW_TOPS = np.uint64(0x7676767676767676)
BELOW_TOP_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
NOTHING = np.uint64(0)
PAIRS = np.uint64(0x00FF00FF00FF00FF)
QUADS = np.uint64(0x0000FFFF0000FFFF)


def words_of(data: bytes) -> npt.NDArray[np.uint64]:
    """The eight bytes from each position on as one number, little-endian; overlapping, without a copy unless there are few."""
    data = data.ljust(64)
    return np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))


@njit(cache=True, inline="always")
def _first_marked(mask):  # type: ignore[no-untyped-def]
    """Index of the first byte whose top bit is set in ``mask``, which has no other bits; 7 also where none is."""
    below = (mask - np.uint64(1)) & ~mask
    return np.int64(((below & ONES) * ONES) >> np.uint64(56)) - 1


@njit(cache=True, inline="always")
def _digits(word, count):  # type: ignore[no-untyped-def]
    """Number made of the first ``count`` bytes (1 to 8) of a word, all digits: pairs, then fours, then eight at once."""
    word = (word << np.uint64(64 - 8 * count)) & NIBBLES
    word = ((word * np.uint64(2561)) >> np.uint64(8)) & PAIRS
    word = ((word * np.uint64(6553601)) >> np.uint64(16)) & QUADS
    return np.int64((word * np.uint64(42949672960001)) >> np.uint64(32))


@njit(cache=True, inline="always")
def _no_digits(word):  # type: ignore[no-untyped-def]
    """Mask of the bytes that are no digits."""
    other = word ^ ZEROS
    return (((other & BELOW_TOP_BITS) + BELOW_TOPS) | other) & TOPS


@njit(cache=True, inline="always")
def _without(word, position):  # type: ignore[no-untyped-def]
    """A word with one byte taken out."""
    shift = np.uint64(8 * position)
    return (word & ((np.uint64(1) << shift) - np.uint64(1))) | ((word >> shift) >> np.uint64(8)) << shift


@njit(cache=True)
def _is_space(byte):  # type: ignore[no-untyped-def]
    return byte == 32 or byte == 10 or byte == 13 or byte == 9


@njit(cache=True)
def _number(buf, pos, end):  # type: ignore[no-untyped-def]
    """(value, next position) of the number at ``pos``; position -1 if there is none. Exact for up to 15 digits."""
    negative = buf[pos] == 45
    if negative or buf[pos] == 43:
        pos += 1
    mantissa = np.int64(0)
    digits = 0
    scale = 0
    point = False
    while pos < end:
        byte = buf[pos]
        if 48 <= byte <= 57:
            digits += 1
            if mantissa < 100000000000000:
                mantissa = mantissa * 10 + (byte - 48)
                if point:
                    scale += 1
            elif not point:
                scale -= 1
        elif byte == 46 and not point:
            point = True
        else:
            break
        pos += 1
    if digits == 0:
        return np.nan, -1
    if pos + 1 < end and (buf[pos] == 101 or buf[pos] == 69):  # exponent
        pos += 1
        minus = buf[pos] == 45
        if minus or buf[pos] == 43:
            pos += 1
        exponent = 0
        exponent_digits = 0
        while pos < end and 48 <= buf[pos] <= 57 and exponent_digits < 4:
            exponent = exponent * 10 + (buf[pos] - 48)
            exponent_digits += 1
            pos += 1
        if exponent_digits == 0:
            return np.nan, -1
        scale += exponent if minus else -exponent
    if scale < -22 or scale > 40:
        return (np.nan, -1) if scale < 0 else (0.0, pos)
    if scale > 22:
        value = mantissa / POWERS[22] / POWERS[scale - 22]
    else:
        value = mantissa / POWERS[scale] if scale >= 0 else mantissa * POWERS[-scale]
    return (-value if negative else value), pos


@njit(cache=True)
def _rows(buf, words, pos, end, alone, grid, angle, meta, values):  # type: ignore[no-untyped-def]
    """Read a VALUES element, whose content begins at ``pos``, and the like ones that follow it unless it is ``alone``.

    Returns the position of the tag after the last one's content, negative where a number is malformed. Values of a grid that is not
    wanted (``angle`` -1) are passed over. All in one function: numba counts references to arrays at every call.
    """
    while True:
        if angle >= 0:
            row = meta[grid, 2 + angle]
            meta[grid, 2 + angle] += 1
            first = (2 * grid + angle) * NODES * NODES + min(row, NODES - 1) * NODES
            count = 0
            while True:
                while pos < end and _is_space(buf[pos]):
                    pos += 1
                while pos < end - 24 and words[pos] == NAN_PAIR:
                    count += 2
                    pos += 8
                if pos >= end or buf[pos] == 60:
                    break
                if buf[pos] == 78 and pos + 2 < end and buf[pos + 1] == 97 and buf[pos + 2] == 78:  # NaN
                    value = np.nan
                    pos += 3
                else:
                    value, after = np.nan, -1
                    if pos < end - 24:
                        word = words[pos]
                        marks = _no_digits(word)
                        whole = _first_marked(marks)
                        second = marks & (marks - np.uint64(1))
                        rest = NOTHING
                        if second != NOTHING:  # the whole number stands in one word
                            places = _first_marked(second) - whole - 1
                            joined = _without(word, whole)
                        else:
                            rest = words[pos + whole + 1]
                            places = _first_marked(_no_digits(rest))
                            joined = NOTHING
                        if whole > 0 and places > 0 and buf[pos + whole] == 46:
                            after = pos + whole + 1 + places
                            if second != NOTHING:
                                value = _digits(joined, whole + places) / POWERS[places]
                            else:
                                value = (_digits(word, whole) * np.int64(POWERS[places]) + _digits(rest, places)) / POWERS[places]
                    if after < 0 or not (buf[after] == 32 or buf[after] == 60):
                        value, after = _number(buf, pos, end)
                        if after < 0 or (after < end and not _is_space(buf[after]) and buf[after] != 60):
                            return -1
                    pos = after
                if count < NODES:
                    values[first + count] = value
                count += 1
            if count != NODES or row >= NODES:
                meta[grid, 4 + angle] = 0
        else:
            while pos < end - 24 and ((words[pos] ^ LESS) - ONES) & ~(words[pos] ^ LESS) & TOPS == NOTHING:
                pos += 8
            while pos < end and buf[pos] != 60:
                pos += 1
        if alone or pos >= end - 24 or words[pos] != CLOSE_VALUES or buf[pos + 8] != 62:
            return pos
        after = pos + 9
        while after < end and _is_space(buf[after]):
            after += 1
        if after >= end - 24 or words[after] != OPEN_VALUES:
            return pos
        pos = after + 8


@njit(cache=True)
def _one_number(buf, start, end):  # type: ignore[no-untyped-def]
    """The number that is an element's whole text, NaN where it is none."""
    while start < end and _is_space(buf[start]):
        start += 1
    value, after = _number(buf, start, end)
    while after > 0 and after < end and _is_space(buf[after]):
        after += 1
    return value if after == end else np.nan


@njit(cache=True)
def _attribute(buf, start, end, first):  # type: ignore[no-untyped-def]
    """Value of the integer attribute ``<first>...Id="n"`` within a start tag, -1 if absent (``first``: b for bandId, d for detectorId)."""
    pos = start
    while pos + 4 < end:
        if buf[pos] == first and _is_space(buf[pos - 1]):
            while pos < end and buf[pos] != 61:
                pos += 1
            pos += 1
            while pos < end and _is_space(buf[pos]):
                pos += 1
            pos += 1  # quote
            value, digits = 0, 0
            while pos < end and 48 <= buf[pos] <= 57 and digits < 4:
                value = value * 10 + (buf[pos] - 48)
                digits += 1
                pos += 1
            return value if digits and pos < end and (buf[pos] == 34 or buf[pos] == 39) else -1
        pos += 1
    return -1


@njit(cache=True)
def _tag_end(buf, pos, size):  # type: ignore[no-untyped-def]
    """Position of the ``>`` that closes the start tag at ``pos`` (quotes respected), -1 if there is none."""
    quote = 0
    while pos < size:
        byte = buf[pos]
        if quote:
            if byte == quote:
                quote = 0
        elif byte == 34 or byte == 39:
            quote = byte
        elif byte == 62:
            return pos
        elif byte == 60:
            return -1
        pos += 1
    return -1


@njit(cache=True)
def _skip_markup(buf, pos, size):  # type: ignore[no-untyped-def]
    """(error, position after) of a comment or processing instruction that begins at ``pos``."""
    if buf[pos + 1] == 63:  # <? ... ?>
        end = pos + 2
        while end + 1 < size and not (buf[end] == 63 and buf[end + 1] == 62):
            end += 1
        return (OK, end + 2) if end + 1 < size else (ERR_TRUNCATED, pos)
    if pos + 3 < size and buf[pos + 2] == 45 and buf[pos + 3] == 45:  # <!-- ... -->
        end = pos + 4
        while end + 2 < size and not (buf[end] == 45 and buf[end + 1] == 45 and buf[end + 2] == 62):
            end += 1
        return (OK, end + 3) if end + 2 < size else (ERR_TRUNCATED, pos)
    return (ERR_TRUNCATED, pos) if pos + 3 >= size else (ERR_DECLARATION, pos)


@njit(cache=True)
def _word_of(hashed, hashes):  # type: ignore[no-untyped-def]
    for word in range(hashes.shape[0]):
        if hashes[word] == hashed:
            return word
    return -1


@njit(cache=True)
def _name(buf, pos, size):  # type: ignore[no-untyped-def]
    """(hash of the qualified name, hash of the local name, position after) of the name at ``pos``."""
    full = FNV_OFFSET
    local = FNV_OFFSET
    while pos < size:
        byte = buf[pos]
        if _is_space(byte) or byte == 62 or byte == 47:
            break
        full = (full ^ np.uint64(byte)) * FNV_PRIME
        local = FNV_OFFSET if byte == 58 else (local ^ np.uint64(byte)) * FNV_PRIME
        pos += 1
    return full, local, pos


@njit(cache=True)
def _is_unwanted(band, wanted):  # type: ignore[no-untyped-def]
    return 0 <= band < wanted.shape[0] and not wanted[band]


@njit(cache=True)
def _begin_grid(word, buf, start, end, grid, meta, steps, values):  # type: ignore[no-untyped-def]
    """Prepare a grid."""
    sun = word == SUN_GRID
    for i in range(4):
        steps[grid, i // 2, i % 2] = np.nan
    meta[grid, 0] = -1 if sun else _attribute(buf, start, end, 98)
    meta[grid, 1] = -1 if sun else _attribute(buf, start, end, 100)
    meta[grid, 2] = 0
    meta[grid, 3] = 0
    meta[grid, 4] = 1
    meta[grid, 5] = 1
    meta[grid, 6] = start
    meta[grid, 7] = 0 if sun else 1
    for i in range(2 * grid * NODES * NODES, 2 * (grid + 1) * NODES * NODES):
        values[i] = np.nan


@njit(cache=True, nogil=True)
def scan(buf, words, hashes, wanted, meta, steps, values, means, texts):  # type: ignore[no-untyped-def]
    """Read a whole file; returns (error, position, grids, root name start, root name end).

    ``words`` is `words_of` the file, ``wanted`` (13,) the bands whose grids are to be read. ``meta`` (grid, 8): band id, detector id, rows
    seen and shape kept per angle, position, 1 for a view grid and 0 for the sun's; ``steps`` (grid, 2, 2) column and row step per angle;
    ``values`` (grid, 2, 23, 23), flat: zenith and azimuth; ``means`` (14, 2), the sun last; ``texts`` (text, 2) spans of the first
    elements of `TEXTS`. ``means`` must come filled with NaN, ``texts`` with -1.
    """
    size = buf.shape[0]
    stack = np.empty(MAX_DEPTH, dtype=np.uint64)
    elements = np.empty(MAX_DEPTH, dtype=np.int64)
    depth, grid, angle, mean = 0, -1, -1, -1
    root_start, root_end = -1, -1
    pos = 3 if size > 3 and buf[0] == 0xEF and buf[1] == 0xBB and buf[2] == 0xBF else 0
    while True:
        while pos < size and buf[pos] != 60:
            if depth == 0 and not _is_space(buf[pos]):
                return ERR_AFTER, pos, grid + 1, root_start, root_end
            pos += 1
        if pos >= size:
            return (OK if depth == 0 and root_end > 0 else ERR_TRUNCATED), pos, grid + 1, root_start, root_end
        if pos + 2 >= size:
            return ERR_TRUNCATED, pos, grid + 1, root_start, root_end
        lead = buf[pos + 1]
        if lead == 33 or lead == 63:
            error, pos = _skip_markup(buf, pos, size)
            if error:
                return error, pos, grid + 1, root_start, root_end
            continue
        if lead == 47:  # end tag
            full, _, after = _name(buf, pos + 2, size)
            while after < size and _is_space(buf[after]):
                after += 1
            if after >= size:
                return ERR_TRUNCATED, pos, grid + 1, root_start, root_end
            if depth == 0 or buf[after] != 62 or full != stack[depth - 1]:
                return ERR_MISMATCH, pos, grid + 1, root_start, root_end
            depth -= 1
            word = elements[depth]
            if word in (ZENITH, AZIMUTH):
                angle = -2 if angle == -2 else -1
            elif word in (MEAN_SUN, MEAN_VIEW):
                mean = -1
            elif word in (SUN_GRID, VIEW_GRID):
                angle = -2
            pos = after + 1
            continue
        full, local, after = _name(buf, pos + 1, size)
        close = _tag_end(buf, after, size)
        if close < 0:
            return (ERR_TRUNCATED if after >= size else ERR_TAG), pos, grid + 1, root_start, root_end
        if after == pos + 1 or after >= size:
            return ERR_TAG, pos, grid + 1, root_start, root_end
        if depth == 0:
            if root_end > 0:
                return ERR_AFTER, pos, grid + 1, root_start, root_end
            root_start, root_end = pos + 1, after
        if buf[close - 1] == 47:  # self-closing
            if depth == 0:
                return ERR_TRUNCATED, pos, grid + 1, root_start, root_end
            pos = close + 1
            continue
        if depth >= MAX_DEPTH:
            return ERR_DEPTH, pos, grid + 1, root_start, root_end
        word = _word_of(local, hashes)
        stack[depth] = full
        elements[depth] = word
        depth += 1
        begin = close + 1
        pos = begin
        if word < 0:
            continue
        if word == VIEW_GRID and _is_unwanted(_attribute(buf, after, close, 98), wanted):
            angle = -2
        elif word in (SUN_GRID, VIEW_GRID):
            if grid + 1 >= meta.shape[0]:
                return ERR_TOO_MANY, pos, grid + 1, root_start, root_end
            grid += 1
            _begin_grid(word, buf, after, close, grid, meta, steps, values)
            angle = -1
        elif word in (ZENITH, AZIMUTH):
            angle = (0 if word == ZENITH else 1) if grid >= 0 and angle == -1 else -2
        elif word == MEAN_SUN:
            mean = 13
        elif word == MEAN_VIEW:
            band = _attribute(buf, after, close, 98)
            mean = band if 0 <= band < 13 else -1
        elif word == VALUES:
            pos = _rows(buf, words, begin, size, full != local, grid, max(angle, -1), meta, values)
            if pos < 0:
                return ERR_NUMBER, begin, grid + 1, root_start, root_end
        else:
            while pos < size and buf[pos] != 60:
                pos += 1
            if word in (COL_STEP, ROW_STEP) and angle >= 0:
                steps[grid, angle, word - COL_STEP] = _one_number(buf, begin, pos)
            elif word in (ZENITH_ANGLE, AZIMUTH_ANGLE) and mean >= 0:
                means[mean, word - ZENITH_ANGLE] = _one_number(buf, begin, pos)
            elif word >= FIRST_TEXT and texts[word - FIRST_TEXT, 0] < 0:
                texts[word - FIRST_TEXT, 0] = begin
                texts[word - FIRST_TEXT, 1] = pos
