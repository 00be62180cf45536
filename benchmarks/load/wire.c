/* A connection to the server under measurement: TCP or TLS on the loopback interface; knows nothing of WebSocket. */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

#ifdef WITH_TLS

int wire_has_tls(void) { return 1; }

static void *start_tls(int fd) {
  static SSL_CTX *context;
  if (!context) {
    context = SSL_CTX_new(TLS_client_method());
    if (!context) fail("OpenSSL has no TLS client");
    /* The certificate is one made for this run, by nobody whom anybody would trust. */
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  }
  SSL *tls = SSL_new(context);
  if (!tls || !SSL_set_fd(tls, fd) || SSL_connect(tls) != 1)
    fail("TLS handshake: %s", ERR_error_string(ERR_get_error(), NULL));
  return tls;
}

/* How OpenSSL says that nothing can be moved now, that the peer has ended, or that the connection failed. */
static size_t moved(SSL *tls, int result, int *ended) {
  if (result > 0) return (size_t)result;
  int why = SSL_get_error(tls, result);
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return 0;
  if (why == SSL_ERROR_ZERO_RETURN && ended) {
    *ended = 1;
    return 0;
  }
  fail("TLS: %s", ERR_error_string(ERR_get_error(), NULL));
}

static size_t send_tls(Wire *wire, const unsigned char *data, size_t size) {
  ERR_clear_error();
  return moved(wire->tls, SSL_write(wire->tls, data, (int)size), NULL);
}

static size_t receive_tls(Wire *wire, unsigned char *data, size_t size, int *ended) {
  ERR_clear_error();
  return moved(wire->tls, SSL_read(wire->tls, data, (int)size), ended);
}

static void end_tls(Wire *wire) { SSL_free(wire->tls); }

#else

int wire_has_tls(void) { return 0; }

static void *start_tls(int fd) {
  (void)fd;
  fail("built without TLS");
}

static size_t send_tls(Wire *wire, const unsigned char *data, size_t size) {
  (void)wire, (void)data;
  return size;
}

static size_t receive_tls(Wire *wire, unsigned char *data, size_t size, int *ended) {
  (void)wire, (void)data, (void)ended;
  return size;
}

static void end_tls(Wire *wire) { (void)wire; }

#endif

Wire wire_open(int port, int tls) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket: %s", strerror(errno));
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect: %s", strerror(errno));
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return (Wire){.fd = fd, .tls = tls ? start_tls(fd) : NULL};
}

void wire_unblock(Wire *wire) { fcntl(wire->fd, F_SETFL, O_NONBLOCK); }

size_t wire_send(Wire *wire, const unsigned char *data, size_t size) {
  if (wire->tls) return send_tls(wire, data, size);
  ssize_t sent = send(wire->fd, data, size, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) fail("send: %s", strerror(errno));
  return sent < 0 ? 0 : (size_t)sent;
}

size_t wire_receive(Wire *wire, unsigned char *data, size_t size, int *ended) {
  if (wire->tls) return receive_tls(wire, data, size, ended);
  ssize_t received = recv(wire->fd, data, size, 0);
  if (received < 0 && errno != EAGAIN) fail("recv: %s", strerror(errno));
  if (!received) *ended = 1;
  return received < 0 ? 0 : (size_t)received;
}

void wire_close(Wire *wire) {
  if (wire->tls) end_tls(wire);
  close(wire->fd);
}
