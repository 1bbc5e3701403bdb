# C types of tokenschain.core.limits: counts are 64 bits, checked for overflow.
cimport cython


cdef class Window:
    cdef public long long amount, used, before, _at
    cdef public double slot_ends, _slot_s
    cdef public list _counts


cdef class AtOnce:
    cdef public long long amount, used


cdef class Pool:
    cdef public long long amount, ceiling, taken, settled, known_left, _low, _since
    cdef public double reset_at_s


cdef class Counters:
    cdef tuple _windows, _settled, _pools, _at_once, _all
    cdef double _due
    cdef public bint runs_low

    @cython.locals(
        window=Window, pool=Pool, count=AtOnce, kind=Py_ssize_t,
        used=cython.longlong, taken=cython.longlong,
    )
    cpdef bint take(self, tuple amounts, double now) except -1

    @cython.locals(
        window=Window, pool=Pool, count=AtOnce, kind=Py_ssize_t, after=cython.longlong,
        changes=tuple,
    )
    cpdef settle(self, tuple taken, object tokens, object spend, double now)
