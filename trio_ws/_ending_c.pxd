# The types with which _ending.py is compiled as _ending_c; what the code does stands there alone.
cimport trio_ws._inbox_c as _inbox
cimport trio_ws.protocol._protocol_c as _protocol
cimport trio_ws.transport._base_c as _base

cdef class Ending:
    cdef readonly _inbox.Inbox inbox
    cdef readonly _protocol.Protocol protocol
    cdef readonly _base.Transport transport
    cdef public object pieces
    cdef readonly object contexts, outbox, pings
    cdef readonly bint timed_out
    cdef readonly long long received, pauses
    cdef object _alarm, _cause, _config, _observed, _on_gone, _over
    cdef bint _eof, _unanswered
    cdef Py_ssize_t _drained, _number
    cdef double _deadline, _paused, _seconds

    cpdef object closed_error(self)
    cpdef object abort(self, cause)
    cpdef object connection_lost(self, exc)
    cdef object _tell_end(self)
    cdef bint _pausing(self) except -1
    cdef object _drop(self, Py_ssize_t size)
    cdef object _begin_end(self)
    cdef object _handle_eof(self)
    cdef object _peer_ended(self)
    cdef object _answer_end(self)
    cdef object _end_sending(self)
    cdef object _end(self)
    cdef object _finish(self)
