/* A mock upstream, well faster than what is measured: one epoll loop, OpenAI-shaped answers.
 *
 *   mock PORT
 *
 * The path or the model's name chooses the behaviour: /d60/... or "md60" answers after 60 ms;
 * /p20/... or "mp20" streams one event each 20 ms; both may be combined as d60p20. What has no
 * body is a question for health and gets 200. A body with "stream":true gets 64 content events,
 * a finish, usage and [DONE]. A path with /aigc/ in it is answered as DashScope does. Every event carries its send time (CLOCK_MONOTONIC, ns) as "t".
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

enum { FDS = 32768, WHEEL = 65536, TICKS_PER_MS = 10, TICK_NS = 100000, IN_MAX = 262144, EVENTS = 64 };

struct conn {
    char *in;
    int used, left, open, head_end, delay, pace, next_event, timer_slot, prev, next, dashscope;
};
static struct conn conns[FDS];
static int wheel[WHEEL];
static long long base_ticks, wheel_at;
static int ep;

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void unschedule(int fd) {
    struct conn *c = &conns[fd];
    if (c->timer_slot < 0) return;
    if (c->prev >= 0) conns[c->prev].next = c->next;
    else wheel[c->timer_slot] = c->next;
    if (c->next >= 0) conns[c->next].prev = c->prev;
    c->timer_slot = -1;
}

static void schedule(int fd, int ms) {
    struct conn *c = &conns[fd];
    unschedule(fd);
    c->timer_slot = (int)((wheel_at + (ms > 0 ? ms * TICKS_PER_MS : 1)) % WHEEL);
    c->prev = -1;
    c->next = wheel[c->timer_slot];
    if (c->next >= 0) conns[c->next].prev = fd;
    wheel[c->timer_slot] = fd;
}

static void drop(int fd) {
    unschedule(fd);
    free(conns[fd].in);
    conns[fd].in = NULL;
    conns[fd].open = 0;
    close(fd);
}

static int put(int fd, const char *data, int size) {
    while (size > 0) {
        int n = (int)send(fd, data, (size_t)size, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) { usleep(50); continue; }
            drop(fd);
            return -1;
        }
        data += n;
        size -= n;
    }
    return 0;
}

static const char FILL[] = "The quick brown fox jumps over the lazy dog and then rests a while";

/* The same answer as DashScope's native API says it. */
static int answer_dashscope(int fd) {
    char body[1024], out[2048];
    int n = snprintf(body, sizeof body,
        "{\"output\":{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"%s. %s. %s.\"},"
        "\"finish_reason\":\"stop\"}]},\"usage\":{\"input_tokens\":220,\"output_tokens\":48,"
        "\"total_tokens\":268},\"request_id\":\"r-1\"}", FILL, FILL, FILL);
    int m = snprintf(out, sizeof out,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
    return put(fd, out, m);
}

static int answer_whole(int fd) {
    if (conns[fd].dashscope) return answer_dashscope(fd);
    char body[1024], out[2048];
    int n = snprintf(body, sizeof body,
        "{\"id\":\"chatcmpl-%lld\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s. %s. %s.\"},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":220,"
        "\"completion_tokens\":48,\"total_tokens\":268,\"prompt_tokens_details\":{\"cached_tokens\":0}},"
        "\"system_fingerprint\":\"fp\"}", now_ns(), FILL, FILL, FILL);
    int m = snprintf(out, sizeof out,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
    return put(fd, out, m);
}

static int send_event(int fd, int index) {
    char data[1024], out[1200];
    int n;
    if (index < EVENTS)
        n = snprintf(data, sizeof data,
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
            "\"model\":\"m\",\"t\":%lld,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word%02d\"},"
            "\"logprobs\":null,\"finish_reason\":null}]}\n\n", now_ns(), index);
    else if (index == EVENTS)
        n = snprintf(data, sizeof data,
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
            "\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    else
        n = snprintf(data, sizeof data,
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
            "\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":220,\"completion_tokens\":%d,"
            "\"total_tokens\":%d}}\n\ndata: [DONE]\n\n", EVENTS, 220 + EVENTS);
    int m = snprintf(out, sizeof out, "%x\r\n%s\r\n%s", n, data, index > EVENTS ? "0\r\n\r\n" : "");
    return put(fd, out, m);
}

/* Reads "d60p20" into delay and pace. */
static void read_variant(struct conn *c, const char *at) {
    char *end = (char *)at;
    if (*end == 'd') c->delay = (int)strtol(end + 1, &end, 10);
    if (*end == 'p') c->pace = (int)strtol(end + 1, &end, 10);
}

static void go_on(int fd);

static void start_answer(int fd) {
    struct conn *c = &conns[fd];
    if (c->next_event < 0) {
        if (answer_whole(fd) == 0) go_on(fd);
        return;
    }
    static const char head[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    if (put(fd, head, sizeof head - 1)) return;
    c->next_event = 0;
    if (c->pace) { schedule(fd, c->pace); return; }
    while (c->next_event <= EVENTS + 1) if (send_event(fd, c->next_event++)) return;
    go_on(fd);
}

static void on_timer(int fd) {
    struct conn *c = &conns[fd];
    if (c->delay) { c->delay = 0; start_answer(fd); return; }
    if (send_event(fd, c->next_event++)) return;
    if (c->next_event > EVENTS + 1) go_on(fd);
    else schedule(fd, c->pace);
}

/* Look for a whole request in the buffer; begin its answer. */
static void go_on(int fd) {
    struct conn *c = &conns[fd];
    if (!c->open) return;
    c->in[c->used] = 0;
    char *end = memmem(c->in, (size_t)c->used, "\r\n\r\n", 4);
    if (!end) return;
    int head = (int)(end - c->in) + 4, length = 0;
    char *field = strcasestr(c->in, "content-length:");
    if (field && field < end) length = atoi(field + 15);
    if (c->used < head + length) return;
    char *path = strchr(c->in, ' ');
    c->delay = c->pace = 0;
    c->dashscope = memmem(c->in, (size_t)head, "/aigc/", 6) != NULL;
    if (path) read_variant(c, path + 2);
    char *model = memmem(end, (size_t)length + 4, "\"model\":\"m", 10);
    if (model && !c->delay && !c->pace) read_variant(c, model + 10);
    int streams = memmem(end, (size_t)length + 4, "\"stream\":true", 13) != NULL;
    c->next_event = streams ? 0 : -1;
    memmove(c->in, c->in + head + length, (size_t)(c->used - head - length));
    c->used -= head + length;
    if (c->delay) schedule(fd, c->delay);
    else start_answer(fd);
}

int main(int argc, char **argv) {
    int port = argc > 1 ? atoi(argv[1]) : 9100, one = 1;
    signal(SIGPIPE, SIG_IGN);
    memset(wheel, -1, sizeof wheel);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
        perror("mock");
        return 1;
    }
    ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, found[512];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec every = {{0, TICK_NS}, {0, TICK_NS}};
    timerfd_settime(timer, 0, &every, NULL);
    e.data.fd = timer;
    epoll_ctl(ep, EPOLL_CTL_ADD, timer, &e);
    base_ticks = now_ns() / TICK_NS;
    for (;;) {
        int n = epoll_wait(ep, found, 512, -1);
        for (int i = 0; i < n; i++) {
            int fd = found[i].data.fd;
            if (fd == listener) {
                int made;
                while ((made = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (made >= FDS) { close(made); continue; }
                    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    conns[made] = (struct conn){.in = malloc(IN_MAX + 1), .open = 1, .timer_slot = -1};
                    e.events = EPOLLIN;
                    e.data.fd = made;
                    epoll_ctl(ep, EPOLL_CTL_ADD, made, &e);
                }
            } else if (fd == timer) {
                unsigned long long ticks;
                if (read(timer, &ticks, 8) != 8) continue;
                long long until = now_ns() / TICK_NS - base_ticks;
                while (wheel_at < until) {
                    wheel_at++;
                    int slot = (int)(wheel_at % WHEEL), due = wheel[slot];
                    wheel[slot] = -1;
                    while (due >= 0) {
                        int following = conns[due].next;
                        if (following >= 0) conns[following].prev = -1;
                        conns[due].timer_slot = -1;
                        on_timer(due);
                        due = following;
                    }
                }
            } else {
                struct conn *c = &conns[fd];
                if (!c->open) continue;
                int got = (int)recv(fd, c->in + c->used, (size_t)(IN_MAX - c->used), 0);
                if (got <= 0) {
                    if (got < 0 && errno == EAGAIN) continue;
                    drop(fd);
                    continue;
                }
                c->used += got;
                if (c->timer_slot < 0) go_on(fd);
            }
        }
    }
}
