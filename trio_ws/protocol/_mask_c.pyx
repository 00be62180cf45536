# cython: language_level=3, boundscheck=False, wraparound=False
"""Masking of payloads (RFC 6455 5.3) in C: the twin of `_mask`, which says what is right; knows nothing of frames.

Each byte is read and written once: masking and copying are one pass.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    ctypedef struct PyByteArrayObject:
        Py_ssize_t ob_alloc


cdef void _xor(char *target, const char *source, Py_ssize_t size, uint32_t mask) noexcept nogil:
    # memcpy of eight bytes is one move, and tells the compiler that nothing is aligned; it makes vectors of the loop
    cdef uint64_t wide = <uint64_t>mask << 32 | mask
    cdef uint64_t word
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t whole = size & ~7
    while i < whole:
        memcpy(&word, source + i, 8)
        word ^= wide
        memcpy(target + i, &word, 8)
        i += 8
    while i < size:
        target[i] = source[i] ^ (<const char *>&mask)[i & 3]
        i += 1


cdef Py_ssize_t _within(Py_ssize_t place, Py_ssize_t size) noexcept:
    """Return a place in a slice as one between 0 and `size`; as in every slice, negative ones count from the end."""
    if place < 0:
        place += size
    return min(max(place, 0), size)


cdef uint32_t _word(bytes mask) except? 1:
    cdef uint32_t word
    if PyBytes_GET_SIZE(mask) != 4:
        raise ValueError("a mask has four bytes")
    memcpy(&word, PyBytes_AS_STRING(mask), 4)
    return word


cpdef bytes apply_mask(bytes data, bytes mask, Py_ssize_t start=0, end=None):
    """Return ``data[start:end]`` with each byte XORed with the byte of `mask` at its position modulo four."""
    if data is None or mask is None:
        raise TypeError("data and mask are bytes")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t first = _within(start, size)
    cdef Py_ssize_t length = max((size if end is None else _within(end, size)) - first, 0)
    if PyBytes_GET_SIZE(mask) == 0:
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + first, length)
    cdef uint32_t word = _word(mask)
    cdef bytes result = PyBytes_FromStringAndSize(NULL, length)
    _xor(PyBytes_AS_STRING(result), PyBytes_AS_STRING(data) + first, length, word)
    return result


cpdef object append_masked(
    bytearray target, bytes data, bytes mask, Py_ssize_t start, Py_ssize_t end, Py_ssize_t expected=0
):
    """Append to `target` what `apply_mask` returns; `expected` is the size that `target` is going to have, if known.

    Room is made for two fifths more than there is, but not for more than is expected: a bytearray by itself makes room
    for an eighth, and so copies a message of 1 MiB eight times over as it grows.
    """
    if target is None or data is None or mask is None:
        raise TypeError("target is a bytearray, data and mask are bytes")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t first = _within(start, size)
    cdef Py_ssize_t length = max(_within(end, size) - first, 0)
    cdef Py_ssize_t before = PyByteArray_GET_SIZE(target)
    cdef Py_ssize_t room = min((before + length) // 5 * 7, expected)
    cdef uint32_t word = _word(mask) if PyBytes_GET_SIZE(mask) else 0
    if room > before + length and before + length >= (<PyByteArrayObject *>target).ob_alloc:
        PyByteArray_Resize(target, room)
    PyByteArray_Resize(target, before + length)
    _xor(PyByteArray_AS_STRING(target) + before, PyBytes_AS_STRING(data) + first, length, word)
