# The types with which _link.py is compiled as _link_c; what the code does stands there alone.
cimport cython

cimport trio_ws._inbox_c as _inbox
cimport trio_ws.protocol._protocol_c as _protocol
cimport trio_ws.transport._base_c as _base

cdef Py_ssize_t HIGH_WATER

@cython.final
cdef class Link:
    cdef readonly _inbox.Inbox inbox
    cdef readonly _protocol.Protocol protocol
    cdef readonly _base.Transport transport
    cdef public object pieces
    cdef readonly object contexts, outbox, pings
    cdef readonly bint timed_out
    cdef object _alarm, _cause, _config, _on_gone, _over
    cdef bint _asked, _eof, _unanswered
    cdef Py_ssize_t _drained
    cdef double _deadline

    @cython.locals(protocol=_protocol.Protocol)
    cpdef object data_received(self, data)
    cpdef object eof_received(self)
    cpdef object drained(self)
    cpdef object connection_lost(self, exc)
    cdef object _go_on(self)
    cdef object _dispatch(self, list events)
    cdef bint _is_full(self) except -1
    cpdef object taken(self)
    cpdef object wanted(self)
    cpdef object read_on(self)
    cpdef object closed_error(self)
    cpdef bint send_in_turn(self, message, compress) except -1
    cpdef object send(self, message, compress)
    cpdef object abort(self, cause)
    cdef object _begin_end(self)
    cdef object _handle_eof(self)
    cdef object _peer_ended(self)
    cdef object _answer_end(self)
    cdef object _end(self)
    cdef object _finish(self)
