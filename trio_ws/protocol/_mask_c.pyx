# cython: language_level=3, boundscheck=False, wraparound=False
"""Masking of payloads (RFC 6455 5.3) in C: the twin of `_mask`, which says what is right; knows nothing of frames.

Each byte is read and written once: masking and copying are one pass.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy


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


cpdef bytes apply_mask(bytes data, bytes mask, Py_ssize_t start=0, end=None):
    """Return ``data[start:end]`` with each byte XORed with the byte of `mask` at its position modulo four."""
    cdef Py_ssize_t stop = PyBytes_GET_SIZE(data) if end is None else min(<Py_ssize_t>end, PyBytes_GET_SIZE(data))
    cdef Py_ssize_t size = max(stop - start, 0)
    cdef bytes result
    cdef uint32_t word
    if not mask:
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, size)
    result = PyBytes_FromStringAndSize(NULL, size)
    memcpy(&word, PyBytes_AS_STRING(mask), 4)
    _xor(PyBytes_AS_STRING(result), PyBytes_AS_STRING(data) + start, size, word)
    return result


cpdef object append_masked(bytearray target, bytes data, bytes mask, Py_ssize_t start, Py_ssize_t end):
    """Append what `apply_mask` returns to `target`."""
    cdef Py_ssize_t stop = min(end, PyBytes_GET_SIZE(data))
    cdef Py_ssize_t size = max(stop - start, 0)
    cdef Py_ssize_t old = PyByteArray_GET_SIZE(target)
    cdef uint32_t word
    PyByteArray_Resize(target, old + size)
    if mask:
        memcpy(&word, PyBytes_AS_STRING(mask), 4)
        _xor(PyByteArray_AS_STRING(target) + old, PyBytes_AS_STRING(data) + start, size, word)
    else:
        memcpy(PyByteArray_AS_STRING(target) + old, PyBytes_AS_STRING(data) + start, size)
