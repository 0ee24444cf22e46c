/*
 * The load generator: one thread, epoll, blocking connects, everything measured from outside the systems under test.
 *
 *   load echo  PORT PATH CONNECTIONS SECONDS BYTES [ACTIVE]   ACTIVE clients (all, if left out) keep one message in flight each
 *   load recv  PORT PATH CONNECTIONS                          counts messages until SIGTERM
 *   load http  PORT PATH CONNECTIONS SECONDS BYTES [HEADER]   POSTs, one in flight for each connection; HEADER is one line
 *   load open  PORT PATH CONNECTIONS                          opens clients as fast as it may, 200 handshakes at once
 *
 * Prints "ready" on standard error once all are open, and one line of JSON at the end:
 *   {"opened":N,"failed":N,"openSeconds":S,"messages":N,"seconds":S,"p50Us":N,"p99Us":N,"p999Us":N}
 * A measured second begins after a warm-up of one fifth of the time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HANDSHAKES = 200, BUFFER_BYTES = 16384, MAX_SAMPLES = 20000000 };
enum mode { ECHO, RECV, HTTP, OPEN };

struct client {
  int fd;
  int is_open;
  int is_active;
  int length;
  uint64_t skip; /* bytes of a message that are still to come and are not kept */
  double sent_at;
  unsigned char bytes[BUFFER_BYTES];
};

static volatile sig_atomic_t is_told_to_end = 0;
static void told(int signal_number) { (void)signal_number; is_told_to_end = 1; }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static int by_size(const void *one, const void *other) {
  uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
  return a < b ? -1 : a > b;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static enum mode mode;
static unsigned char request[1 << 20];
static int request_length;
static uint32_t *samples;
static long sample_count, message_count;
static double measured_from;

static void put(struct client *c) {
  int sent = 0;
  c->sent_at = now();
  while (sent < request_length) {
    int n = write(c->fd, request + sent, request_length - sent);
    if (n < 0 && errno != EAGAIN) return;
    if (n > 0) sent += n;
  }
}

static void answered(struct client *c) {
  double t = now();
  if (measured_from > 0) {
    message_count++;
    if (sample_count < MAX_SAMPLES && c->sent_at > 0) samples[sample_count++] = (uint32_t)((t - c->sent_at) * 1e6);
  }
  if (c->is_active && (mode == ECHO || mode == HTTP)) put(c);
}

/* Takes whole WebSocket frames off the front; returns how many bytes were used. */
static int take_frames(struct client *c) {
  int at = 0;
  for (;;) {
    if (c->skip > 0) {
      int have = c->length - at;
      int used = (uint64_t)have < c->skip ? have : (int)c->skip;
      c->skip -= used;
      at += used;
      if (c->skip > 0) return at;
      answered(c);
      continue;
    }
    unsigned char *b = c->bytes + at;
    int have = c->length - at;
    if (have < 2) return at;
    int opcode = b[0] & 15, head = 2;
    uint64_t size = b[1] & 127;
    if (size == 126) head = 4;
    if (size == 127) head = 10;
    if (have < head) return at;
    if (head > 2) {
      size = 0;
      for (int i = 2; i < head; i++) size = size << 8 | b[i];
    }
    at += head;
    if (opcode == 9) { /* a ping: answered with an empty pong, which every server takes */
      unsigned char pong[6] = {0x8a, 0x80, 1, 2, 3, 4};
      if (write(c->fd, pong, sizeof pong) < 0 && errno != EAGAIN) return at;
    }
    if (opcode == 1 || opcode == 2) {
      if (size == 0) answered(c);
      c->skip = size;
      continue;
    }
    if ((uint64_t)(c->length - at) < size) return at - head;
    at += (int)size;
  }
}

/* Takes whole HTTP answers with a Content-Length, or none, off the front. */
static int take_answers(struct client *c) {
  int at = 0;
  for (;;) {
    char *start = (char *)c->bytes + at;
    char *end = memmem(start, c->length - at, "\r\n\r\n", 4);
    if (end == NULL) return at;
    long body = 0;
    char *length = memmem(start, end - start, "ontent-", 7) ? strcasestr(start, "content-length:") : NULL;
    if (length != NULL && length < end) body = atol(length + 15);
    long whole = end + 4 - start + body;
    if (c->length - at < whole) return at;
    at += whole;
    answered(c);
  }
}

static void begin(struct client *c, const char *path, int port, int number) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  char host[32];
  int one = 1;
  snprintf(host, sizeof host, "127.0.0.%d", 1 + number / 20000);
  inet_pton(AF_INET, host, &a.sin_addr);
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0) die("socket");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(c->fd, (struct sockaddr *)&a, sizeof a) != 0) die("connect");
  if (mode != HTTP) {
    char handshake[2048];
    int n = snprintf(handshake, sizeof handshake,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     path, port);
    if (write(c->fd, handshake, n) != n) die("write");
  }
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

int main(int count_of_arguments, char **argument) {
  if (count_of_arguments < 5) return 2;
  const char *names[] = {"echo", "recv", "http", "open"};
  for (mode = ECHO; mode < OPEN && strcmp(argument[1], names[mode]) != 0;) mode++;
  int port = atoi(argument[2]), clients = atoi(argument[4]);
  const char *path = argument[3];
  double seconds = count_of_arguments > 5 ? atof(argument[5]) : 0;
  int payload = count_of_arguments > 6 ? atoi(argument[6]) : 0;
  int active = mode == ECHO && count_of_arguments > 7 ? atoi(argument[7]) : clients;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  signal(SIGTERM, told);
  signal(SIGPIPE, SIG_IGN);
  samples = malloc(sizeof *samples * MAX_SAMPLES);
  struct client *all = calloc(clients, sizeof *all);
  if (samples == NULL || all == NULL) die("memory");

  if (mode == HTTP) {
    request_length = snprintf((char *)request, sizeof request,
                              "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: text/plain\r\n%s%sContent-Length: %d\r\n\r\n",
                              path, port, count_of_arguments > 7 ? argument[7] : "", count_of_arguments > 7 ? "\r\n" : "", payload);
    memset(request + request_length, 'x', payload);
    request_length += payload;
  } else {
    unsigned char mask[4] = {1, 2, 3, 4};
    request[request_length++] = 0x81;
    if (payload < 126) request[request_length++] = 0x80 | payload;
    else {
      request[request_length++] = 0x80 | 126;
      request[request_length++] = payload >> 8;
      request[request_length++] = payload & 255;
    }
    memcpy(request + request_length, mask, 4);
    request_length += 4;
    for (int i = 0; i < payload; i++) request[request_length++] = 'x' ^ mask[i & 3];
  }

  int poll = epoll_create1(0), next = 0, opened = 0, failed = 0, shaking = 0, is_started = 0;
  double opening_at = now(), opened_at = 0, ends_at = 0;
  struct epoll_event events[1024];
  for (;;) {
    while (next < clients && shaking < MAX_HANDSHAKES) {
      struct client *c = &all[next];
      begin(c, path, port, next);
      c->is_active = next < active;
      struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
      epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &wanted);
      next++;
      if (mode == HTTP) { c->is_open = 1; opened++; }
      else shaking++;
    }
    if (!is_started && opened + failed == clients) {
      is_started = 1;
      opened_at = now();
      fprintf(stderr, "ready\n");
      if (mode == OPEN) break;
      if (mode == RECV) measured_from = opened_at;
      else {
        ends_at = opened_at + seconds * 1.2;
        for (int i = 0; i < clients; i++) if (all[i].is_open && all[i].is_active) put(&all[i]);
      }
    }
    if (is_told_to_end) break;
    if (is_started && mode != RECV) {
      double t = now();
      if (measured_from == 0 && t >= opened_at + seconds * 0.2) measured_from = t;
      if (t >= ends_at) break;
    }
    int n = epoll_wait(poll, events, 1024, 50);
    for (int i = 0; i < n; i++) {
      struct client *c = events[i].data.ptr;
      int got = read(c->fd, c->bytes + c->length, sizeof c->bytes - c->length);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) {
        epoll_ctl(poll, EPOLL_CTL_DEL, c->fd, NULL);
        close(c->fd);
        if (!c->is_open && mode != HTTP) shaking--;
        failed++;
        if (c->is_open) opened--;
        c->is_open = c->is_active = 0;
        continue;
      }
      c->length += got;
      if (!c->is_open) {
        char *end = memmem(c->bytes, c->length, "\r\n\r\n", 4);
        if (end == NULL) continue;
        shaking--;
        if (memcmp(c->bytes, "HTTP/1.1 101", 12) != 0) {
          failed++;
          epoll_ctl(poll, EPOLL_CTL_DEL, c->fd, NULL);
          close(c->fd);
          continue;
        }
        int used = (unsigned char *)end + 4 - c->bytes;
        memmove(c->bytes, c->bytes + used, c->length - used);
        c->length -= used;
        c->is_open = 1;
        opened++;
      }
      int used = mode == HTTP ? take_answers(c) : take_frames(c);
      if (used > 0) memmove(c->bytes, c->bytes + used, c->length - used);
      c->length -= used;
    }
  }
  double took = measured_from > 0 ? now() - measured_from : 0;
  qsort(samples, sample_count, sizeof *samples, by_size);
  uint32_t p50 = sample_count ? samples[sample_count / 2] : 0;
  uint32_t p99 = sample_count ? samples[(long)(sample_count * 0.99)] : 0;
  uint32_t p999 = sample_count ? samples[(long)(sample_count * 0.999)] : 0;
  printf("{\"opened\":%d,\"failed\":%d,\"openSeconds\":%.4f,\"messages\":%ld,\"seconds\":%.4f,\"p50Us\":%u,\"p99Us\":%u,\"p999Us\":%u}\n",
         opened, failed, opened_at - opening_at, message_count, took, p50, p99, p999);
  return 0;
}
