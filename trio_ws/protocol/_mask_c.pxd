# What the compiled codec may call without going through Python.

cpdef bytes apply_mask(bytes data, bytes mask, Py_ssize_t start=*, end=*)
cpdef object append_masked(bytearray target, bytes data, bytes mask, Py_ssize_t start, Py_ssize_t end, Py_ssize_t expected=*)
