# The types with which _protocol.py is compiled as _protocol_c; what the code does stands there alone.
cimport cython

cimport trio_ws.protocol._codec_c as _codec
cimport trio_ws.protocol._encode_c as _encode

cdef int OP_CLOSE, OP_CONTINUATION, OP_PING, OP_PONG, MAX_CONTROL_SIZE

@cython.final
cdef class Protocol:
    cdef readonly bint may_receive, may_send, more
    cdef public bint text_as_bytes
    cdef readonly Py_ssize_t partial
    cdef readonly object close_received, close_sent, extensions, phase, role, subprotocol, violation
    cdef public object meter
    cdef object _masks
    cdef str _excess
    cdef _codec.Decoder _decoder
    cdef int _sending
    cdef bint _compressing
    cdef long long _messages, _bytes, _frames, _pings, _pongs
    cdef readonly object deflater
    cdef object _inflater

    @cython.locals(decoder=_codec.Decoder, events=list)
    cpdef list receive_data(self, data)
    @cython.locals(decoder=_codec.Decoder, events=list)
    cdef list _receive_metered(self, data)
    cpdef list next_in_pieces(self)
    cpdef bint next_whole(self)
    @cython.locals(decoder=_codec.Decoder)
    cpdef tuple counts(self)
    @cython.locals(chunks=tuple, payload=bytes)
    cpdef tuple send_message(self, message, compress=*)
    cpdef object count_message(self, Py_ssize_t size)
    cdef object _move(self, by)
    cdef object _require_open(self)
    cdef tuple _control(self, int opcode, bytes payload)
    cdef bytes _mask(self)
