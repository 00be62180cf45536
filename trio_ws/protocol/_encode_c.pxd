# The types with which _encode.py is compiled as _encode_c; what the code does stands there alone.
cimport cython

from trio_ws.protocol._mask_c cimport apply_mask

cdef int OP_TEXT, OP_BINARY
cdef int FIN, MASK
cdef int MAX_CONTROL_SIZE, JOIN_SIZE, PIECE_SIZE
cdef list _SHORT_HEADERS

cpdef tuple encode_message(message, masks)
cpdef tuple encode_payload(message)
@cython.locals(size=Py_ssize_t, start=Py_ssize_t)
cpdef tuple encode_chunks(int opcode, bytes payload, bytes mask, bint fin)
@cython.locals(size=Py_ssize_t)
cpdef Py_ssize_t payload_size(tuple chunks, bint masked) except -1
@cython.locals(header=bytes)
cpdef bytes encode_frame(int opcode, bytes payload, bytes mask, bint fin=*)
@cython.locals(first=int, masked=int, header=bytes)
cpdef bytes encode_header(int opcode, Py_ssize_t size, bytes mask, bint fin=*)
