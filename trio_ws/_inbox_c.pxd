# The types with which _inbox.py is compiled as _inbox_c; what the code does stands there alone.
cimport cython
cimport cpython.time as time

cdef int TURN_MESSAGES, READ_AHEAD
cdef double TURN_SECONDS
cdef Py_ssize_t _BYTES_OVERHEAD

@cython.final
cdef class Turn:
    cdef readonly double end
    cdef readonly bint fresh
    cdef readonly int receives, sends

    cpdef object begin(self)
    @cython.locals(fresh=bint)
    cpdef bint may_send(self) except -1
    cpdef bint may_receive(self) except -1

@cython.final
cdef class Waiter:
    cdef Inbox _inbox
    cdef object task
    cdef readonly object message

    cpdef object abort(self, _)

@cython.final
cdef class Inbox:
    cdef public Py_ssize_t bytes
    cdef readonly Py_ssize_t messages, most_bytes, most_messages
    cdef public bint reading
    cdef readonly double max_messages, max_bytes
    cdef readonly Turn turn
    cdef readonly bint closed
    cdef list _next, _behind
    cdef Waiter _first
    cdef object _others

    @cython.locals(size=Py_ssize_t)
    cpdef bint full(self, Py_ssize_t partial, bint stretched) except -1
    cpdef bint low(self) except -1
    @cython.locals(waiter=Waiter)
    cpdef object put(self, message)
    cpdef object hold(self, Py_ssize_t size)
    @cython.locals(waiter=Waiter)
    cpdef object close(self)
    @cython.locals(waiter=Waiter)
    cpdef Waiter join(self, task)
    cpdef object leave(self, Waiter waiter)
    cpdef object discard(self)
    cpdef object take_in_turn(self, owner)
    cpdef object take(self, owner)

cpdef Py_ssize_t memory_of(message) except -1
