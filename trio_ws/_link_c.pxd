# The types with which _link.py is compiled as _link_c; what the code does stands there alone.
cimport cython

cimport trio_ws._ending_c as _ending
cimport trio_ws.protocol._protocol_c as _protocol

cdef Py_ssize_t HIGH_WATER

@cython.final
cdef class Link(_ending.Ending):
    cdef bint _asked, _midway, _resting

    @cython.locals(protocol=_protocol.Protocol, events=list)
    cpdef object data_received(self, data)
    cpdef object eof_received(self)
    cpdef object drained(self)
    @cython.locals(events=list)
    cdef object _go_on(self)
    cdef object _settle(self)
    cpdef object take_turn(self)
    cdef object _dispatch(self, list events)
    cdef object _note(self, list events, Py_ssize_t size)
    cdef bint _is_full(self) except -1
    cpdef object taken(self)
    cpdef object wanted(self)
    @cython.locals(now=double)
    cpdef object read_on(self)
    cpdef bint send_in_turn(self, message, compress) except -1
    cpdef bint offer(self, message, bint more=*) except -1
    cpdef object send(self, message, compress)
