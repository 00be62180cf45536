/* A WebSocket load generator, to measure servers on the loopback interface: one thread, one epoll set.
 *
 *   load echo      PORT CONNECTIONS SIZE DEPTH SECONDS [tls] [lengths] [pid=N] [deflate=FILE] [fresh]
 *   load churn     PORT CONNECTIONS SECONDS [lengths] [pid=N]
 *   load hold      PORT CONNECTIONS [tls] [lengths] [deflate=FILE] [fresh]
 *   load broadcast PORT CONNECTIONS SIZE SECONDS [stalled] [pid=N]
 *
 * echo:  each connection sends a burst of DEPTH masked binary messages of SIZE bytes, and the next burst when the last
 *        echo of it has come. Counts messages; latency is a burst's, from its sending to its last echo.
 * churn: keeps CONNECTIONS busy with short lives: TCP, opening handshake, one message of 64 bytes echoed, closing
 *        handshake, end of TCP. Counts whole lives; latency is that of the opening handshake.
 * hold:  opens CONNECTIONS, has one message of 64 bytes echoed on each, says so, and keeps them until its standard
 *        input ends, so that the server's memory can be read.
 * broadcast: one connection sends a message of SIZE bytes, which the server sends to all, and the next one when all have
 *        it. Counts deliveries; latency is that of a delivery. With "stalled" there is one more connection, which reads
 *        nothing and is not counted, and which is full before the others are opened.
 *
 * A fifth of SECONDS is for warming up. Both this and the rest take longer where a server is slow: a server answers many
 * connections in turn, and a count of less than a few turns says nothing.
 *
 * Prints one line of JSON; with the server's "pid" also the CPU time that its process, all threads, took for each message
 * or life: "server_us". Every byte that comes back is compared with what was sent; with "lengths", for a server that
 * reads no payload, only opcodes and lengths are. Anything unexpected ends the run with a message and status 1. Pings
 * are not answered: servers have to be measured for less time than they wait for a pong.
 *
 * With "deflate" permessage-deflate is offered, and FILE has frames ready to be sent, one message each, which are valid
 * whether or not the server remembers those before them. Connections send one at a time, one after another, and begin anew
 * behind the last; SIZE and DEPTH mean nothing. With "fresh" no context is to be taken over on either side. Answers are
 * messages of text, whose number and length are counted: "wire_bytes" is what one takes, with its header. Nobody inflates
 * them here.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { FIN = 0x80, RSV1 = 0x40, RSV = 0x70, MASKED = 0x80, HEADER = 10, MASK = 4 };
enum { TOGETHER = 32, EVENTS = 256, RESPONSE = 4096, PATIENCE = 60, TURNS = 4 };
enum { FILLING = 1 << 20, FILLINGS = 16, STALL = 10 };

static const char DEFLATE[] = "permessage-deflate", FRESH[] = "server_no_context_takeover";
/* RFC 6455 1.3 has the same key and its answer as the example. */
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

typedef struct {
  Wire wire;
  size_t turn;      /* which burst it is at */
  size_t sent;      /* bytes of the burst */
  int answered;     /* messages of the burst */
  uint64_t at;      /* bytes of the message that is coming in */
  uint64_t left;    /* bytes of the frame that is coming in */
  int data, final;  /* what that frame is */
  int inside;       /* whether a fragmented message is open */
  int closed;       /* whether the server's close frame has come */
  unsigned char header[HEADER];
  int header_size;
  double since; /* when the burst, or the opening, began */
  char response[RESPONSE];
  size_t response_size;
} Connection;

static struct {
  int port, count, depth, tls, lengths, pid, fresh, stalled;
  const char *deflate; /* the file of frames, NULL for none */
  size_t size;
  double seconds;
} task;

typedef struct {
  const unsigned char *data;
  size_t size;
} Burst;

static char request[512];
static Burst *bursts;
static size_t burst_count;
static unsigned char *pattern; /* message i of a burst is pattern[i .. i + size), unless it is compressed */
static uint64_t answers_size;  /* bytes of all answers while there is a window */
static unsigned char input[1 << 18];

static double *latencies;
static size_t latency_count, latency_room;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- Figures ----------------------------------------------------------------------------------------------------- */

static void note_latency(double latency) {
  if (latency_count == latency_room) {
    latency_room = latency_room ? 2 * latency_room : 1 << 16;
    latencies = realloc(latencies, latency_room * sizeof *latencies);
    if (!latencies) fail("out of memory for latencies");
  }
  latencies[latency_count++] = latency;
}

static int compare(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

/* The nearest rank: the smallest latency that this share of all does not exceed. */
static double percentile_us(double share) {
  size_t rank = (size_t)ceil(share * (double)latency_count);
  return latencies[rank ? rank - 1 : 0] * 1e6;
}

/* Seconds of CPU time that the server has taken so far. Finer than the ticks in /proc, of which a short run has few. */
static double server_time(void) {
  clockid_t clock;
  struct timespec t;
  if (!task.pid) return 0;
  if (clock_getcpuclockid(task.pid, &clock) || clock_gettime(clock, &t)) fail("the server's process has no clock");
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Decides when to begin counting, and when there is enough. */
typedef struct {
  double start, since, server;
  long total, turn; /* of messages, or of lives: what was counted, and one for each place where it can happen */
} Window;

static Window open_window(long turn) { return (Window){.start = now(), .turn = turn}; }

static int is_over(Window *w) {
  double t = now();
  if (!w->since && t >= w->start + task.seconds / 5 && w->total >= w->turn) {
    w->since = t;
    w->server = server_time();
    w->total = 0;
    answers_size = 0;
    latency_count = 0;
  }
  return w->since && t >= w->start + task.seconds && w->total >= TURNS * w->turn && latency_count;
}

static void report(const char *what, const Window *w) {
  double rate = (double)w->total / (now() - w->since), each = (server_time() - w->server) / (double)w->total;
  qsort(latencies, latency_count, sizeof *latencies, compare);
  printf("{\"%s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f", what, rate, percentile_us(.5),
         percentile_us(.99), percentile_us(.999));
  if (task.pid) printf(", \"server_us\": %.3f", each * 1e6);
  if (task.deflate) printf(", \"wire_bytes\": %.1f", (double)answers_size / (double)w->total);
  printf("}\n");
}

/* --- The opening handshake --------------------------------------------------------------------------------------- */

/* Read on; return whether the whole response is there, and fail unless it is the right one. */
static int read_response(Connection *c) {
  int ended = 0;
  size_t got = wire_receive(&c->wire, (unsigned char *)c->response + c->response_size,
                            RESPONSE - 1 - c->response_size, &ended);
  c->response_size += got;
  c->response[c->response_size] = 0;
  char *end = strstr(c->response, "\r\n\r\n");
  if (!end) {
    if (ended || c->response_size == RESPONSE - 1) fail("no response to the handshake: %.200s", c->response);
    return 0;
  }
  if (strncmp(c->response, "HTTP/1.1 101", 12) || !strstr(c->response, ACCEPT))
    fail("the handshake was refused: %.200s", c->response);
  if (task.deflate && !strstr(c->response, DEFLATE)) fail("the server does not compress");
  if (task.fresh && !strstr(c->response, FRESH)) fail("the server takes contexts over");
  if (end + 4 != c->response + c->response_size) fail("the server sent something before it was asked");
  return 1;
}

static void say(Connection *c, const unsigned char *data, size_t size) {
  if (wire_send(&c->wire, data, size) != size) fail("%zu bytes did not fit into the socket", size);
}

static void start_opening(Connection *c) {
  memset(c, 0, sizeof *c);
  c->since = now();
  c->wire = wire_open(task.port, task.tls);
  say(c, (unsigned char *)request, strlen(request));
}

static Connection *make_connections(int count) {
  Connection *all = calloc((size_t)count, sizeof *all);
  if (!all) fail("out of memory for connections");
  return all;
}

/* Open connections, a few at a time: more would overflow a server's queue, and a lost SYN costs a second. */
static void open_some(Connection *some, int count, int epoll) {
  for (int first = 0; first < count; first += TOGETHER) {
    int end = first + TOGETHER < count ? first + TOGETHER : count;
    for (int i = first; i < end; i++) start_opening(&some[i]);
    for (int i = first; i < end; i++)
      while (!read_response(&some[i])) continue;
  }
  for (int i = 0; i < count; i++) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &some[i]};
    wire_unblock(&some[i].wire);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, some[i].wire.fd, &event)) fail("epoll_ctl: %s", strerror(errno));
  }
}

static Connection *open_all(int epoll) {
  Connection *all = make_connections(task.count);
  open_some(all, task.count, epoll);
  return all;
}

/* --- Messages ---------------------------------------------------------------------------------------------------- */

/* Make a burst of each frame in a file. */
static void read_frames(void) {
  FILE *file = fopen(task.deflate, "rb");
  if (!file) fail("%s: %s", task.deflate, strerror(errno));
  fseek(file, 0, SEEK_END);
  size_t size = (size_t)ftell(file);
  rewind(file);
  unsigned char *data = malloc(size);
  bursts = malloc(size * sizeof *bursts / MASK); /* no frame is as short as a mask */
  if (!data || !bursts || fread(data, 1, size, file) != size) fail("%s could not be read", task.deflate);
  fclose(file);
  for (size_t at = 0; at < size; at += bursts[burst_count++].size) {
    const unsigned char *p = data + at;
    size_t length = p[1] & 0x7f, wide = length == 126 ? 2 : 0;
    if (wide) length = (size_t)(p[2] << 8 | p[3]);
    bursts[burst_count] = (Burst){p, 2 + wide + MASK + length};
  }
}

static void make_burst(void) {
  int wide = task.size < 126 ? 0 : task.size < 65536 ? 2 : 8;
  size_t frame = 2 + (size_t)wide + MASK + task.size;
  unsigned char *p = malloc(frame * (size_t)task.depth);
  bursts = malloc(sizeof *bursts);
  pattern = malloc(task.size + (size_t)task.depth);
  if (!p || !bursts || !pattern) fail("out of memory for messages");
  burst_count = 1;
  bursts[0] = (Burst){p, frame * (size_t)task.depth};
  srand(1);
  for (size_t i = 0; i < task.size + (size_t)task.depth; i++) pattern[i] = (unsigned char)rand();
  for (int i = 0; i < task.depth; i++) {
    unsigned char mask[MASK];
    *p++ = FIN | BINARY;
    *p++ = (unsigned char)(MASKED | (wide == 0 ? task.size : wide == 2 ? 126 : 127));
    for (int k = wide - 1; k >= 0; k--) *p++ = (unsigned char)((uint64_t)task.size >> (8 * k));
    for (int k = 0; k < MASK; k++) *p++ = mask[k] = (unsigned char)rand();
    for (size_t k = 0; k < task.size; k++) *p++ = pattern[(size_t)i + k] ^ mask[k % MASK];
  }
}

/* Take one more byte of a header; when it is complete, check it and know the frame. */
static void take_header(Connection *c, unsigned char byte) {
  c->header[c->header_size++] = byte;
  if (c->header_size < 2) return;
  int length = c->header[1] & 0x7f, wide = length == 126 ? 2 : length == 127 ? 8 : 0;
  if (c->header_size < 2 + wide) return;
  uint64_t size = wide ? 0 : (uint64_t)length;
  for (int k = 0; k < wide; k++) size = size << 8 | c->header[2 + k];
  int opcode = c->header[0] & 0x0f;
  if (c->header[0] & RSV & ~(task.deflate ? RSV1 : 0) || c->header[1] & MASKED)
    fail("a frame with reserved bits, or masked");
  if (opcode == CLOSE) c->closed = 1;
  c->data = opcode == (task.deflate ? TEXT : BINARY) || opcode == CONTINUATION;
  if (c->data && (opcode == CONTINUATION) != c->inside) fail("a frame with opcode %d came out of order", opcode);
  if (!c->data && opcode != CLOSE && opcode != PING && opcode != PONG) fail("opcode %d came back", opcode);
  if (c->data) answers_size += 2 + (uint64_t)wide + size;
  if (c->data && !task.deflate && size > task.size - c->at) fail("more than %zu bytes came back", task.size);
  c->final = c->header[0] & FIN;
  if (c->data) c->inside = !c->final;
  c->left = size;
  c->header_size = 0;
}

static void end_frame(Connection *c) {
  if (!c->data || !c->final) return;
  if (c->at != task.size && !task.deflate) fail("%llu bytes came back of %zu", (unsigned long long)c->at, task.size);
  if (c->answered == task.depth) fail("more messages came back than were sent");
  c->at = 0;
  c->answered++;
}

static void take(Connection *c, const unsigned char *p, size_t size) {
  for (const unsigned char *end = p + size; p < end;) {
    if (!c->left) {
      take_header(c, *p++);
      if (c->header_size || c->left) continue;
    } else {
      size_t part = (size_t)(end - p) < c->left ? (size_t)(end - p) : (size_t)c->left;
      if (c->data) {
        if (pattern && !task.lengths && memcmp(pattern + c->answered + c->at, p, part)) fail("other bytes came back than were sent");
        c->at += part;
      }
      p += part;
      c->left -= part;
    }
    if (!c->left) end_frame(c);
  }
}

/* Move what can be moved on a connection; return the number of messages that came back. */
static long serve(Connection *c, int again) {
  long done = 0;
  for (;;) {
    int before = c->answered;
    Burst burst = bursts[c->turn];
    for (size_t n; c->sent < burst.size; c->sent += n)
      if (!(n = wire_send(&c->wire, burst.data + c->sent, burst.size - c->sent))) break;
    int ended = 0;
    for (size_t n; (n = wire_receive(&c->wire, input, sizeof input, &ended));) take(c, input, n);
    if (ended || c->closed) fail("the server closed the connection");
    done += c->answered - before;
    if (c->answered < task.depth) return done;
    if (c->sent < burst.size) fail("the answer was there before the question");
    double t = now();
    note_latency(t - c->since);
    if (!again) return done;
    c->since = t;
    c->turn = (c->turn + 1) % burst_count;
    c->sent = 0;
    c->answered = 0;
  }
}

/* --- The tasks --------------------------------------------------------------------------------------------------- */

static void echo(int epoll) {
  Connection *all = open_all(epoll);
  Window window = open_window((long)task.count * task.depth);
  for (int i = 0; i < task.count; i++) all[i].since = window.start;
  while (!is_over(&window)) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll, events, EVENTS, 10);
    for (int i = 0; i < n; i++) window.total += serve(events[i].data.ptr, 1);
  }
  report("messages_s", &window);
}

static void hold(int epoll) {
  alarm(PATIENCE); /* nobody waits for a server that does not answer */
  Connection *all = open_all(epoll);
  for (long answered = 0; answered < task.count;) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) answered += serve(events[i].data.ptr, 0);
  }
  printf("{\"open\": %d}\n", task.count);
  fflush(stdout);
  alarm(0);
  while (read(0, input, sizeof input) > 0) continue;
  for (int i = 0; i < task.count; i++) wire_close(&all[i].wire);
}

static void start_life(Connection *c, int epoll) {
  start_opening(c);
  wire_unblock(&c->wire);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->wire.fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

/* Move a life on; return whether it is over. */
static int live(Connection *c) {
  static const unsigned char goodbye[] = {FIN | CLOSE, MASKED | 2, 0, 0, 0, 0, 1000 >> 8, 1000 & 0xff};
  if (!c->sent) {
    if (!read_response(c)) return 0;
    note_latency(now() - c->since);
    say(c, bursts->data, bursts->size);
    c->sent = bursts->size;
    return 0;
  }
  int ended = 0, before = c->answered;
  take(c, input, wire_receive(&c->wire, input, sizeof input, &ended));
  if (c->answered > before) say(c, goodbye, sizeof goodbye);
  /* RFC 6455 7.1.1: the server is the first to end the TCP connection. */
  if (ended && !c->closed) fail("the server did not answer the close frame");
  return ended;
}

static void churn(int epoll) {
  Connection *all = make_connections(task.count);
  for (int i = 0; i < task.count; i++) start_life(&all[i], epoll);
  Window window = open_window(task.count);
  while (!is_over(&window)) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll, events, EVENTS, 10);
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (!live(c)) continue;
      wire_close(&c->wire);
      window.total++;
      start_life(c, epoll);
    }
  }
  report("connections_s", &window);
}

/* Open connections, and wait until the server has them: who has sent the response may not be ready to broadcast yet. */
static void open_listeners(Connection *some, int count, int epoll) {
  static const unsigned char ping[] = {FIN | PING, MASKED, 0, 0, 0, 0}, pong[] = {FIN | PONG, 0};
  open_some(some, count, epoll);
  for (int i = 0; i < count; i++) say(&some[i], ping, sizeof ping);
  for (int i = 0; i < count; i++) {
    unsigned char answer[sizeof pong];
    int ended = 0;
    for (size_t got = 0; got < sizeof answer && !ended;)
      got += wire_receive(&some[i].wire, answer + got, sizeof answer - got, &ended);
    if (ended || memcmp(answer, pong, sizeof pong)) fail("the server did not answer a ping");
  }
}

/* Have the first of some connections say something, and wait until all of them have heard it. */
static long speak(Connection *some, int count, int epoll) {
  double since = now();
  for (int i = 0; i < count; i++) {
    some[i].answered = 0;
    some[i].sent = i ? bursts->size : 0;
    some[i].since = since;
  }
  long heard = serve(some, 0);
  while (heard < count) {
    struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll, events, EVENTS, 1000);
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (c >= some && c < some + count) heard += serve(c, 0);
    }
    if (now() > since + STALL) fail("a message has come to %ld of %d: the server waits for the others", heard, count);
  }
  return heard;
}

static void broadcast(int epoll) {
  Connection *all = make_connections(task.count), *stalled = make_connections(1);
  open_listeners(all, 1, epoll);
  if (task.stalled) {
    size_t size = task.size;
    open_listeners(stalled, 1, epoll);
    task.size = FILLING;
    make_burst();
    for (int i = 0; i < FILLINGS; i++) speak(all, 1, epoll);
    task.size = size;
    make_burst();
  }
  open_listeners(all + 1, task.count - 1, epoll);
  Window window = open_window(task.count);
  while (!is_over(&window)) window.total += speak(all, task.count, epoll);
  report("deliveries_s", &window);
}

/* --- The command line ------------------------------------------------------------------------------------------- */

static int has(int argc, char **argv, const char *word) {
  for (int i = 1; i < argc; i++)
    if (!strcmp(argv[i], word)) return 1;
  return 0;
}

/* Return what stands behind a name that ends in "=", or NULL. */
static const char *find(int argc, char **argv, const char *name) {
  for (int i = 1; i < argc; i++)
    if (!strncmp(argv[i], name, strlen(name))) return argv[i] + strlen(name);
  return NULL;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  int is_echo = !strcmp(what, "echo"), is_churn = !strcmp(what, "churn"), is_hold = !strcmp(what, "hold");
  int is_broadcast = !strcmp(what, "broadcast");
  if (!strcmp(what, "tls?")) return !wire_has_tls();
  if (argc < (is_echo ? 7 : is_broadcast ? 6 : is_churn ? 5 : is_hold ? 4 : argc + 1)) {
    fprintf(stderr, "usage: load echo|churn|hold|broadcast PORT ...; the head of load.c says more\n");
    return 2;
  }
  task.port = atoi(argv[2]);
  task.count = atoi(argv[3]);
  task.size = is_echo || is_broadcast ? strtoull(argv[4], NULL, 10) : 64;
  task.depth = is_echo ? atoi(argv[5]) : 1;
  task.seconds = is_echo ? atof(argv[6]) : is_broadcast ? atof(argv[5]) : is_churn ? atof(argv[4]) : 0;
  task.tls = has(argc, argv, "tls");
  task.lengths = has(argc, argv, "lengths");
  task.stalled = has(argc, argv, "stalled");
  const char *pid = find(argc, argv, "pid=");
  task.pid = pid ? atoi(pid) : 0;
  task.deflate = find(argc, argv, "deflate=");
  task.fresh = has(argc, argv, "fresh");
  if (task.deflate) task.depth = 1;
  snprintf(request, sizeof request,
           "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
           task.port, KEY);
  if (task.deflate)
    sprintf(request + strlen(request), "Sec-WebSocket-Extensions: %s; client_max_window_bits%s%s%s\r\n", DEFLATE,
            task.fresh ? "; " : "", task.fresh ? FRESH : "", task.fresh ? "; client_no_context_takeover" : "");
  strcat(request, "\r\n");
  task.deflate ? read_frames() : make_burst();
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) fail("epoll_create1: %s", strerror(errno));
  if (is_echo) echo(epoll);
  if (is_churn) churn(epoll);
  if (is_hold) hold(epoll);
  if (is_broadcast) broadcast(epoll);
  return 0;
}
