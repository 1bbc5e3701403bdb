/* Lets a Python process under callgrind say what is counted: see bench/instructions.py.

   Preloaded, it also slows down the clocks while it is counted, by about as much as callgrind slows
   down the process: what calls do once in a second would else be counted for each of them, and the
   more often the more other work the machine has. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#define SLOWER 100
#define NANO 1000000000LL

static int counting;
static long long begun[2]; /* CLOCK_REALTIME, CLOCK_MONOTONIC */

static long long now(clockid_t clock, struct timespec *at) {
    syscall(SYS_clock_gettime, clock, at);
    return at->tv_sec * NANO + at->tv_nsec;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    long long time = now(clock, at);
    if (counting && (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC)) {
        time = begun[clock] + (time - begun[clock]) / SLOWER;
        at->tv_sec = time / NANO;
        at->tv_nsec = time % NANO;
    }
    return 0;
}

void count_begin(void) {
    struct timespec at;
    begun[CLOCK_REALTIME] = now(CLOCK_REALTIME, &at);
    begun[CLOCK_MONOTONIC] = now(CLOCK_MONOTONIC, &at);
    counting = 1;
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void count_end(const char *name) {
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}
