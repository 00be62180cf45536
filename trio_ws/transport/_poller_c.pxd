# The types with which _poller.py is compiled as _poller_c; what the code does stands there alone.
cimport cython
cimport cpython.time as time

cdef double _SLICE

@cython.final
cdef class Poller:
    cdef readonly dict sockets
    cdef readonly object due
    cdef readonly Py_ssize_t held
    cdef public object flusher
    cdef public bint again
    cdef readonly double now
    cdef readonly long long turn
    cdef object _ready
    cdef list _events
    cdef long long _polled
    cdef double _due_since, _tasks_since, _tasks_took

    cpdef object add(self, int fd, transport)
    cpdef object remove(self, int fd)
    cpdef object hold(self)
    cpdef object release(self)
    cpdef object watch(self, int fd, old, new)
    cpdef object call_soon(self, transport)
    cpdef object wake_flusher(self)
    cpdef object tasks_over(self)
    @cython.locals(begun=double, deadline=double)
    cpdef object serve_ready(self)
    @cython.locals(begun=double, deadline=double)
    cpdef Py_ssize_t serve_due(self, Py_ssize_t count) except -1
    cpdef object begin_turn(self)
    cdef bint _serve(self, double deadline) except -1
    cdef object _serve_one(self, transport, int flags)
