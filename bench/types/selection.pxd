# C types of tokenschain.core.routing.selection.
cimport cython


cdef class Endpoint:
    cdef public object candidate, concurrency_limit, health, name
    cdef public list _sizes
    cdef public bint _measured
    cdef public double _base_s, _idle_per_token_s, _per_token_s, prefill_tokens, token_s, usd_cny
    cdef public long long inflight, reserved

    cpdef double begin(self, long long prompt_tokens) except? -1

    @cython.locals(base=double, per_token=double)
    cpdef spoke(self, long long prompt_tokens, double ahead, double took_s, double now)

    cpdef silent(self, long long prompt_tokens)

    @cython.locals(each=double)
    cpdef ended(self, long long prompt_tokens, long long tokens, double spoke_s, double took_s)


@cython.locals(
    endpoint=Endpoint, tokens=cython.longlong, cached=cython.longlong, bucket=Py_ssize_t,
    weighed=list, in_time=bint, all_in_time=bint, output_tokens=double, at_s=double,
    load_max=double, fresh=double, backlog_max_s=double, per_token_s=double, load=double,
    first_s=double, peak_s=double, peak_at=double, fresh_rate=double, cached_rate=double,
    output_rate=double, until_s=double, cost=double, cheapest=double,
)
cpdef tuple weigh(
    object endpoints, object need, double slo_s, double now, object affinity=*, object filtered=*
)


@cython.locals(
    latency=double, price=double, by_load=double, reference_pico=double, dear_max=double,
    late=double, cost=double, load=double, score=double, least=double,
)
cdef tuple _best_by_score(
    object rows, object policy, object need, double cheapest_pico, double now
)
