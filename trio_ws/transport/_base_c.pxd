# The types with which _base.py is compiled as _base_c; what the code does stands there alone.
cdef class Transport:
    cdef public Py_ssize_t buffered, most_buffered
    cdef public long long accepted
    cdef public double heard

    cpdef object write(self, tuple chunks, bint more=*)
    cpdef object flush(self)
    cpdef object pause_reading(self)
    cpdef object resume_reading(self)
    cpdef object end(self)
    cpdef object close(self)
    cpdef object abort(self)
