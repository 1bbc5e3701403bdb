# C types of tokenschain.gateway.quota.rate_headers.
cimport cython
from tokenschain.core.limits cimport Pool, Window


cdef class RateLines:
    cdef public str before, after, _name
    cdef public object counter, kind
    cdef public double until


cdef class RateHeaders:
    cdef tuple _kinds

    @cython.locals(
        said=RateLines, lines=RateLines, window=Window, other=Window,
        least=cython.longlong, left=cython.longlong, text=str,
    )
    cpdef bytes lines(self, double now)
