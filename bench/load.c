/* A load generator for one gateway: one epoll loop, latencies without coordinated omission.
 *
 *   load PORT PATH KEY BODY_FILE MODE ARGS...
 *     closed CONNECTIONS CALLS          as fast as the answers come
 *     open   RATE SECONDS               calls at fixed times, latency counted from those times
 *     stream STREAMS SECONDS            streams at once, restarted as they end
 *     abort  STREAMS CALLS EVENTS       streams cut by the caller after EVENTS events
 * Prints one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { CONNS = 8192, IN_MAX = 65536, SAMPLES = 4000000 };

struct conn { int fd, busy, used, head_end, length, chunked, events; long long started; char in[IN_MAX + 1]; };
static struct conn conns[CONNS];
static int idle[CONNS], idle_count, conn_count, ep, port;
static char *request;
static int request_size;
static long long done, errors, events, bad_status;
static float *latency, *event_delay;
static long long latency_count, event_count;

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double part(float *values, long long count, double q) {
    return count ? values[(long long)((double)(count - 1) * q)] : 0;
}

static void dial(struct conn *c) {
    int one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&at, sizeof at)) { perror("load: connect"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
}

static void begin(struct conn *c, long long at) {
    if (c->fd <= 0) dial(c);
    c->busy = 1;
    c->used = c->head_end = c->length = c->chunked = c->events = 0;
    c->started = at;
    if (send(c->fd, request, (size_t)request_size, MSG_NOSIGNAL) != request_size) errors++;
}

static struct conn *take(void) {
    if (idle_count) return &conns[idle[--idle_count]];
    if (conn_count >= CONNS) { errors++; return NULL; }
    return &conns[conn_count++];
}

static void hang_up(struct conn *c) {
    close(c->fd);
    c->fd = 0;
}

/* Returns 1 when the answer is complete. */
static int feed(struct conn *c) {
    int got = (int)recv(c->fd, c->in + c->used, (size_t)(IN_MAX - c->used), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) { errors += c->busy; hang_up(c); return c->busy; }
    long long now = now_ns();
    int from = c->used;
    c->used += got;
    c->in[c->used] = 0;
    if (!c->head_end) {
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return 0;
        c->head_end = (int)(end - c->in) + 4;
        if (strncmp(c->in + 9, "200", 3)) bad_status++;
        char *field = strcasestr(c->in, "content-length:");
        if (field && field < end) c->length = atoi(field + 15);
        else c->chunked = 1;
        from = c->head_end;
    }
    if (!c->chunked) return c->used >= c->head_end + c->length;
    for (char *at = c->in + from; (at = strstr(at, "data: {")); at += 7) {
        c->events++;
        events++;
    }
    /* Send times, where the gateway let the mock's field through. */
    for (char *at = c->in + from; (at = strstr(at, "\"t\":")); at += 4) {
        if (event_count < SAMPLES) event_delay[event_count++] = (float)((double)(now - atoll(at + 4)) / 1e6);
    }
    if (c->used >= 5 && !memcmp(c->in + c->used - 5, "0\r\n\r\n", 5)) return 1;
    if (c->used > IN_MAX / 2) {
        memmove(c->in, c->in + c->used - 16, 16);
        c->used = 16;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 7) { fprintf(stderr, "see the head of load.c\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    FILE *file = fopen(argv[4], "rb");
    if (!file) { perror("load: body"); return 1; }
    static char body[1 << 20];
    int size = (int)fread(body, 1, sizeof body, file);
    request = malloc((size_t)size + 2048);
    request_size = sprintf(request,
        "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %s\r\n"
        "content-type: application/json\r\naccept: application/json\r\nuser-agent: load/1\r\n"
        "%scontent-length: %d\r\n\r\n", argv[2], port, argv[3],
        getenv("LOAD_HEADERS") ? getenv("LOAD_HEADERS") : "", size);
    memcpy(request + request_size, body, (size_t)size);
    request_size += size;
    latency = malloc(SAMPLES * sizeof *latency);
    event_delay = malloc(SAMPLES * sizeof *event_delay);
    ep = epoll_create1(0);
    const char *mode = argv[5];
    int width = atoi(argv[6]);
    long long limit = argc > 7 ? atoll(argv[7]) : 0;
    int cut_after = argc > 8 ? atoi(argv[8]) : 0;
    long long began = now_ns(), hard_end = began + 300000000000LL, until = 0, goal = 0, sent = 0;
    int open_loop = !strcmp(mode, "open"), timer = -1;
    if (open_loop) {
        goal = (long long)width * limit;
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
        epoll_ctl(ep, EPOLL_CTL_ADD, timer, &e);
        struct itimerspec every = {{0, 250000}, {0, 250000}};
        timerfd_settime(timer, 0, &every, NULL);
    } else {
        if (!strcmp(mode, "stream")) until = began + limit * 1000000000LL, goal = 1LL << 60;
        else goal = limit;
        for (int i = 0; i < width && sent < goal; i++, sent++) {
            if (until) usleep(100); /* spread the streams over an event's pause */
            begin(take(), now_ns());
        }
    }
    struct epoll_event found[512];
    while (done < goal && now_ns() < hard_end) {
        int n = epoll_wait(ep, found, 512, 100);
        if (until && now_ns() > until) break;
        for (int i = 0; i < n; i++) {
            struct conn *c = found[i].data.ptr;
            if (!c) {
                unsigned long long ticks;
                if (read(timer, &ticks, 8) < 0) continue;
                long long now = now_ns();
                while (sent < goal) {
                    long long due = began + sent * 1000000000LL / width;
                    if (due > now) break;
                    struct conn *taken = take();
                    sent++;
                    if (taken) begin(taken, due);
                    else done++;
                }
                continue;
            }
            int complete = feed(c);
            if (cut_after && c->busy && !complete && c->events >= cut_after) {
                hang_up(c);
                complete = 1;
            }
            if (!complete) continue;
            c->busy = 0;
            done++;
            if (latency_count < SAMPLES) latency[latency_count++] = (float)((double)(now_ns() - c->started) / 1e6);
            if (open_loop) idle[idle_count++] = (int)(c - conns);
            else if (sent < goal) { sent++; begin(c, now_ns()); }
        }
    }
    double seconds = (double)(now_ns() - began) / 1e9;
    qsort(latency, (size_t)latency_count, sizeof *latency, by_value);
    qsort(event_delay, (size_t)event_count, sizeof *event_delay, by_value);
    printf("{\"done\":%lld,\"errors\":%lld,\"bad_status\":%lld,\"seconds\":%.3f,\"calls_per_s\":%.1f,"
           "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f,\"events\":%lld,\"event_p50_ms\":%.3f,\"event_p99_ms\":%.3f}\n",
           done, errors, bad_status, seconds, (double)done / seconds, part(latency, latency_count, .5),
           part(latency, latency_count, .99), part(latency, latency_count, .999),
           latency_count ? latency[latency_count - 1] : 0.0, events, part(event_delay, event_count, .5),
           part(event_delay, event_count, .99));
    return 0;
}
