# The types with which _socket.py is compiled as _socket_c; what the code does stands there alone.
cimport cython

cimport trio_ws.transport._base_c as _base
cimport trio_ws.transport._poller_c as _poller

cdef int READ, WRITE, ERROR, HANGUP
cdef int _NEW, _OPEN, _ENDING, _ENDED, _CLOSING, _FAILED, _ABORTED, _LOST
cdef Py_ssize_t BATCH, LOW_WATER, MAX_CHUNKS, _LARGE, _LARGE_BATCH

cdef class SocketTransport(_base.Transport):
    cdef public bint due
    cdef readonly long long since
    cdef bint _above, _eof, _paused, _watched
    cdef int _fd, _phase, _want
    cdef Py_ssize_t _read_size
    cdef long long _wrote
    cdef object _current_poller, _error, _receiver, _sock, _stream
    cdef list _queue
    cdef _poller.Poller _poll

    @cython.locals(size=Py_ssize_t)
    cpdef object write(self, tuple chunks, bint more=*)
    cpdef object flush(self)
    cpdef object pause_reading(self)
    cpdef object resume_reading(self)
    cpdef object end(self)
    cpdef object close(self)
    cpdef object abort(self)
    cpdef object serve(self, int events)
    cpdef object lose(self, exc)
    cdef object _call_soon(self)
    cdef object _watch(self, int want)
    cdef object _unwatch(self)
    cdef object _release(self)
    @cython.locals(sent=Py_ssize_t)
    cdef object _send(self, chunks, Py_ssize_t size)
    @cython.locals(queue=list, count=Py_ssize_t, size=Py_ssize_t, most=Py_ssize_t, want=int)
    cdef object _flush(self)
    cdef object _shutdown(self)
    cdef object _input(self, int events)
    cdef object _ignore(self, int events)
    cdef object _fail(self, exc)

@cython.locals(index=Py_ssize_t)
cdef list _behind(chunks, Py_ssize_t sent)
