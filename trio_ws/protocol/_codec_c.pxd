# The types with which _codec.py is compiled as _codec_c; what the code does stands there alone.
cimport cython

from trio_ws.protocol._mask_c cimport append_masked, apply_mask

cdef int OP_CONTINUATION, OP_TEXT, OP_BINARY, OP_CLOSE, OP_PING, OP_PONG
cdef int FIN, RSV1, RSV2_3, OPCODE, MASK, LENGTH
cdef int MAX_CONTROL_SIZE
cdef Py_ssize_t INFLATE_STEP, INFLATE_LIMIT, COMPRESSED_FACTOR, COMPRESSED_EXTRA
cdef long long MAX_FRAME_SIZE

@cython.final
cdef class Decoder:
    cdef readonly bint finished, more
    cdef readonly Py_ssize_t partial
    cdef readonly long long frames, messages, payload, pings, pongs
    cdef bint _masked, _fin, _in_pieces, _compressed, _paused
    cdef bytes _pending, _mask
    cdef int _opcode
    cdef Py_ssize_t _offset, _unpaused
    cdef bytearray _message
    cdef object _inflater
    cdef long long _size, _fragments, _checked, _remaining, _inflated, _max_message_size, _max_fragments

    @cython.locals(position=Py_ssize_t, taken=Py_ssize_t, steps=Py_ssize_t, buffer=bytes, events=list)
    cpdef list decode(self, data, Py_ssize_t limit=*)
    cpdef object stop(self)
    @cython.locals(available=Py_ssize_t, first=int, second=int, opcode=int, size=longlong, width=int, position=Py_ssize_t, end=Py_ssize_t, mask=bytes)
    cdef Py_ssize_t _frame(self, bytes buffer, Py_ssize_t start, list events) except -1
    @cython.locals(size=int)
    cdef object _check_header(self, int first, int second, int opcode)
    cdef object _check_length(self, object size, int width)
    @cython.locals(most=longlong)
    cdef object _check_message_size(self, long long size, int first)
    cdef object _control(self, int opcode, bytes payload)
    @cython.locals(fragmented=bint, kind=int, payload=bytes)
    cdef Py_ssize_t _data(self, bytes buffer, Py_ssize_t start, long long size, bytes mask, int first, list events) except -1
    @cython.locals(end=Py_ssize_t, size=Py_ssize_t, final=bint)
    cdef Py_ssize_t _payload(self, bytes buffer, Py_ssize_t start, list events) except -1
    @cython.locals(data=bytes)
    cdef object _inflate_whole(self, bytes payload, int kind)
    @cython.locals(room=longlong, data=bytes)
    cdef bytes _inflate(self, bytes payload, bint final)
    @cython.locals(size=Py_ssize_t)
    cdef object _piece(self, list events, bint final)

cdef object _text(payload)
