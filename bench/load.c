// The load generator of the bench: WebSocket clients and HTTP callers, one process, one thread, epoll.
//
//   load echo  opens WebSockets and keeps one message in flight on each active one: the next goes out when the reply is there.
//   load recv  opens WebSockets and counts what arrives, until a line or the end of standard input.
//   load http  opens keep-alive connections and keeps one request in flight on each; requests come from a file, in turn.
//
//   --port N  --address A    where to connect (127.0.0.1)         --path P      path and query of the handshake
//   --conns N                connections                          --burst N     handshakes at the same time (200)
//   --active N               echo: of them this many send (all)   --bytes N     echo: payload of a message (64)
//   --seconds S --warmup S   counted time, and time before it     --rate R      open loop: R messages or requests a second
//   --requests FILE          http: a number of bytes, a newline, so many bytes of a whole request; and so on
//   --hold                   echo: after `ready` wait for a line on standard input before sending
//
// Prints {"ready":...} once all connections are open or refused, and one line of JSON in the end. Times are microseconds. With
// --rate a time counts from when the message was due, not from when a connection was free for it: a stall counts for all that it
// delays. `messages` are those of the counted time, `answers` all that came. `lost`: sent without an answer when the time was over and two more seconds had passed, or the connection was closed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTING, SHAKING, OPEN, CLOSED };
enum { ECHO, RECV, HTTP };

typedef struct {
  int fd, state, is_waiting;
  double sent_at;
  unsigned char *kept;  // what of a frame or answer has arrived, while it is not whole
  size_t kept_len;
} Conn;

// Microseconds from 0 to an hour in steps of under 1 %: 128 steps for each doubling.
#define STEPS 128
#define SIZE (STEPS * 40)
typedef struct { long counts[SIZE], total; } Histogram;

static struct {
  int mode, port, conns, active, bytes, burst, hold;
  double seconds, warmup, rate;
  const char *path, *address, *requests;
} opt = {.conns = 1, .active = -1, .bytes = 64, .burst = 200, .seconds = 3, .path = "/", .address = "127.0.0.1"};

static Histogram latency, opening;
static Conn *conns, **idle;
static int idle_count, epoll_fd, opened, failed, closed, shaking, created, is_sending, is_counting;
static long messages, answers, bad, lost, waiting;
static double first_at, last_at;
static char *request_bytes, **requests;
static size_t *request_lens;
static int request_count, next_request;
static unsigned char frame[70000], input[1 << 18];
static int frame_len;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void record(Histogram *h, double seconds) {
  uint64_t v = seconds > 0 ? (uint64_t)(seconds * 1e7) : 0;  // tenths of a microsecond
  int shift = 0;
  while (v >> shift >= 2 * STEPS) shift++;
  int at = shift * STEPS + (int)(v >> shift);
  h->counts[at < SIZE ? at : SIZE - 1]++;
  h->total++;
}

static double quantile(const Histogram *h, double q) {
  long need = (long)(q * h->total), seen = 0;
  for (int i = 0; i < SIZE; i++) {
    seen += h->counts[i];
    if (seen > need || (seen == h->total && h->total > 0)) {
      int shift = i < 2 * STEPS ? 0 : i / STEPS - 1;
      return (double)((uint64_t)(i - shift * STEPS) << shift) / 10;
    }
  }
  return 0;
}

static void build_frame(void) {
  static const unsigned char mask[4] = {17, 34, 51, 68};
  frame[frame_len++] = 0x81;
  if (opt.bytes < 126) frame[frame_len++] = 0x80 | opt.bytes;
  else frame[frame_len++] = 0x80 | 126, frame[frame_len++] = opt.bytes >> 8, frame[frame_len++] = opt.bytes & 255;
  memcpy(frame + frame_len, mask, 4), frame_len += 4;
  for (int i = 0; i < opt.bytes; i++) frame[frame_len++] = ('a' + i % 26) ^ mask[i & 3];
}

static void read_requests(void) {
  FILE *f = fopen(opt.requests, "r");
  if (!f) die(opt.requests);
  fseek(f, 0, SEEK_END);
  long size = ftell(f);
  rewind(f);
  request_bytes = malloc(size + 1);
  if (fread(request_bytes, 1, size, f) != (size_t)size) die("short read");
  request_bytes[size] = 0;
  fclose(f);
  int room = 1024;
  requests = malloc(room * sizeof *requests), request_lens = malloc(room * sizeof *request_lens);
  for (char *p = request_bytes; p < request_bytes + size;) {
    char *end;
    size_t len = strtoul(p, &end, 10);
    if (*end != '\n' || end + 1 + len > request_bytes + size) { errno = EINVAL; die(opt.requests); }
    if (request_count == room) {
      room *= 2;
      requests = realloc(requests, room * sizeof *requests), request_lens = realloc(request_lens, room * sizeof *request_lens);
    }
    requests[request_count] = end + 1, request_lens[request_count++] = len;
    p = end + 1 + len;
  }
  if (request_count == 0) { errno = EINVAL; die(opt.requests); }
}

static void dial(Conn *c) {
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  // A reset in the end leaves no port in TIME_WAIT behind, so that the next run finds them free.
  struct linger reset = {1, 0};
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(opt.port)};
  inet_pton(AF_INET, opt.address, &a.sin_addr);
  c->state = CONNECTING, c->kept_len = 0, c->is_waiting = 0, c->sent_at = now();
  if (connect(c->fd, (void *)&a, sizeof a) && errno != EINPROGRESS) die("connect");
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
  shaking++;
}

static void end(Conn *c) {
  if (c->state == CONNECTING || c->state == SHAKING) failed++, shaking--;
  else if (c->state == OPEN) {
    closed++;
    if (c->is_waiting) lost++, waiting--;
  }
  close(c->fd);
  c->state = CLOSED, c->is_waiting = 0;
}

static int is_active(const Conn *c) { return opt.mode != RECV && (opt.active < 0 || c - conns < opt.active); }

// The messages are far smaller than a socket's buffer and only one is in flight, so a short write is a fault.
static void kick(Conn *c, double due) {
  const void *bytes = frame;
  size_t len = frame_len;
  if (opt.mode == HTTP) bytes = requests[next_request], len = request_lens[next_request], next_request = (next_request + 1) % request_count;
  c->sent_at = due, c->is_waiting = 1, waiting++;
  if (write(c->fd, bytes, len) != (ssize_t)len) end(c);
}

static void is_open(Conn *c) {
  c->state = OPEN, opened++, shaking--;
  record(&opening, now() - c->sent_at);
  if (is_active(c)) idle[idle_count++] = c;
}

static void answered(Conn *c) {
  double t = now();
  if (is_counting) {
    messages++;
    if (opt.mode != RECV) record(&latency, t - c->sent_at);
  }
  if (opt.mode == RECV) {
    if (first_at == 0) first_at = t;
    last_at = t;
    return;
  }
  if (!c->is_waiting) return;
  c->is_waiting = 0, waiting--, answers++;
  if (is_sending && opt.rate == 0) kick(c, t);
  else idle[idle_count++] = c;
}

static void shake(Conn *c) {
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
  if (opt.mode == HTTP) { is_open(c); return; }
  char head[4096];
  int len = snprintf(head, sizeof head,
    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: aHVid2lyZS1iZW5jaC1rZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", opt.path, opt.port);
  c->state = SHAKING;
  if (write(c->fd, head, len) != len) end(c);
}

// How many bytes of what is there were used; what is left is not whole.
static size_t take_handshake(Conn *c, unsigned char *p, size_t len) {
  unsigned char *body = memmem(p, len, "\r\n\r\n", 4);
  if (!body) return 0;
  if (len < 12 || memcmp(p, "HTTP/1.1 101", 12)) {
    if (failed == 0) fprintf(stderr, "load: refused: %.*s\n", (int)(len < 300 ? len : 300), p);
    end(c);
    return len;
  }
  is_open(c);
  return body + 4 - p;
}

static size_t take_frame(Conn *c, unsigned char *p, size_t len) {
  if (len < 2) return 0;
  size_t size = p[1] & 127, head = 2;
  if (size == 126) { if (len < 4) return 0; size = p[2] << 8 | p[3], head = 4; }
  else if (size == 127) { if (len < 10) return 0; size = 0; for (int i = 2; i < 10; i++) size = size << 8 | p[i]; head = 10; }
  if (len < head + size) return 0;
  int op = p[0] & 15;
  if (op == 1 || op == 2) answered(c);
  else if (op == 9 && size < 126) {
    unsigned char pong[131] = {0x8A, 0x80 | size};  // the mask is zero
    memcpy(pong + 6, p + head, size);
    if (write(c->fd, pong, 6 + size) < 0) end(c);
  } else if (op == 8) {
    if (closed == 0) fprintf(stderr, "load: closed: %d %.*s\n", size > 1 ? p[head] << 8 | p[head + 1] : 1005, size > 2 ? (int)size - 2 : 0, p + head + 2);
    end(c);
  }
  return head + size;
}

static size_t take_answer(Conn *c, unsigned char *p, size_t len) {
  unsigned char *body = memmem(p, len, "\r\n\r\n", 4);
  if (!body || len < 12) return 0;
  size_t size = 0, head = body + 4 - p;
  for (char *line = memmem(p, head, "\r\n", 2); line < (char *)body; line = memmem(line + 2, (char *)body + 2 - line, "\r\n", 2)) {
    if (!strncasecmp(line + 2, "content-length:", 15)) size = strtoul(line + 17, 0, 10);
    else if (!strncasecmp(line + 2, "transfer-encoding:", 18)) { errno = EPROTO; die("an answer in chunks"); }
  }
  if (len < head + size) return 0;
  if (p[9] != '2') {
    if (bad == 0) fprintf(stderr, "load: answered: %.*s\n", (int)(len < 400 ? len : 400), p);
    bad++, answers--;
    if (is_counting) messages--;
  }
  answered(c);
  return head + size;
}

static void take(Conn *c, unsigned char *p, size_t len) {
  while (len > 0 && c->state != CLOSED) {
    size_t used = c->state == SHAKING ? take_handshake(c, p, len) : opt.mode == HTTP ? take_answer(c, p, len) : take_frame(c, p, len);
    if (used == 0) break;
    p += used, len -= used;
  }
  if (c->state == CLOSED) len = 0;
  if (len > 0) c->kept = realloc(c->kept, len), memmove(c->kept, p, len);
  c->kept_len = len;
}

static void readable(Conn *c) {
  size_t had = c->kept_len;
  if (had > sizeof input / 2) { errno = EMSGSIZE; die("a message"); }
  memcpy(input, c->kept, had);
  ssize_t got = read(c->fd, input + had, sizeof input - had);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) end(c);
  else take(c, input, had + got);
}

static void turn(double wait) {
  struct epoll_event events[512];
  struct timespec t = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
  int count = epoll_pwait2(epoll_fd, events, 512, &t, 0);
  for (int i = 0; i < count; i++) {
    Conn *c = events[i].data.ptr;
    if (c->state == CONNECTING && events[i].events & (EPOLLERR | EPOLLHUP)) end(c);
    else if (c->state == CONNECTING) shake(c);
    else if (c->state != CLOSED) readable(c);
  }
}

static int has_line(void) {
  struct pollfd p = {.fd = 0, .events = POLLIN};
  char line[64];
  if (poll(&p, 1, 0) <= 0) return 0;
  return read(0, line, sizeof line) >= 0;
}

static double open_all(void) {
  double from = now();
  while (created < opt.conns || shaking > 0) {
    while (created < opt.conns && shaking < opt.burst) dial(&conns[created++]);
    turn(0.1);
  }
  return now() - from;
}

// Sends for so long; returns when that began.
static double drive(double seconds, double *due) {
  double from = now();
  for (double t = from; t - from < seconds; t = now()) {
    while (idle_count > 0 && (opt.rate == 0 || *due <= t)) {
      Conn *c = idle[--idle_count];
      if (c->state != OPEN) continue;
      kick(c, opt.rate == 0 ? t : *due);
      if (opt.rate > 0) *due += 1 / opt.rate;
    }
    double next = opt.rate > 0 && idle_count > 0 ? *due - t : 0.01;
    turn(next < 0 ? 0 : next > 0.01 ? 0.01 : next);
  }
  return from;
}

static double send_and_count(void) {
  double due = now();
  is_sending = 1;
  drive(opt.warmup, &due);
  is_counting = 1;
  double from = drive(opt.seconds, &due), took = now() - from;
  is_counting = is_sending = 0;
  for (double t = now(); waiting > 0 && now() - t < 2;) turn(0.01);
  lost += waiting;
  return took;
}

static double receive(void) {
  is_counting = 1;
  while (!has_line()) turn(0.02);
  // What is still on its way: until nothing has come for half a second.
  for (double t = now(); now() - t < 20;) {
    long before = messages;
    double quiet = now();
    while (now() - quiet < 0.5) turn(0.05);
    if (messages == before) break;
  }
  return last_at - first_at;
}

static void parse(int argc, char **argv) {
  const char *modes[] = {"echo", "recv", "http"};
  for (opt.mode = 0; opt.mode < 3 && (argc < 2 || strcmp(argv[1], modes[opt.mode])); opt.mode++) {}
  for (int i = 2; i < argc; i++) {
    const char *name = argv[i];
    if (!strcmp(name, "--hold")) { opt.hold = 1; continue; }
    const char *value = i + 1 < argc ? argv[++i] : "";
    if (!strcmp(name, "--port")) opt.port = atoi(value);
    else if (!strcmp(name, "--address")) opt.address = value;
    else if (!strcmp(name, "--path")) opt.path = value;
    else if (!strcmp(name, "--conns")) opt.conns = atoi(value);
    else if (!strcmp(name, "--active")) opt.active = atoi(value);
    else if (!strcmp(name, "--bytes")) opt.bytes = atoi(value);
    else if (!strcmp(name, "--burst")) opt.burst = atoi(value);
    else if (!strcmp(name, "--seconds")) opt.seconds = atof(value);
    else if (!strcmp(name, "--warmup")) opt.warmup = atof(value);
    else if (!strcmp(name, "--rate")) opt.rate = atof(value);
    else if (!strcmp(name, "--requests")) opt.requests = value;
    else opt.mode = 3;
  }
  if (opt.mode == 3 || opt.port == 0 || opt.bytes > 65535 || (opt.mode == HTTP && !opt.requests)) {
    fprintf(stderr, "load: see the head of load.c for how it is called\n");
    exit(2);
  }
}

int main(int argc, char **argv) {
  parse(argc, argv);
  signal(SIGPIPE, SIG_IGN);
  build_frame();
  if (opt.mode == HTTP) read_requests();
  conns = calloc(opt.conns, sizeof *conns), idle = calloc(opt.conns, sizeof *idle);
  epoll_fd = epoll_create1(0);
  double opening_took = open_all();
  printf("{\"ready\":%d}\n", opened);
  fflush(stdout);
  while (opt.hold && !has_line()) turn(0.02);
  double took = opt.mode == RECV ? receive() : send_and_count();
  printf("{\"opened\":%d,\"failed\":%d,\"closed\":%d,\"openSeconds\":%.6f,\"openRate\":%.1f,\"openP50\":%.1f,\"openP99\":%.1f,"
    "\"firstAt\":%.6f,\"lastAt\":%.6f,\"messages\":%ld,\"answers\":%ld,\"bad\":%ld,\"lost\":%ld,\"seconds\":%.6f,\"rate\":%.1f,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f}\n",
    opened, failed, closed, opening_took, opening_took > 0 ? opened / opening_took : 0, quantile(&opening, 0.5), quantile(&opening, 0.99),
    first_at, last_at, messages, answers, bad, lost, took, took > 0 ? messages / took : 0, quantile(&latency, 0.5), quantile(&latency, 0.99), quantile(&latency, 0.999));
  return 0;
}
