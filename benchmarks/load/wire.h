/* A connection to the server under measurement: TCP or TLS on the loopback interface; knows nothing of WebSocket. */
#ifndef WIRE_H
#define WIRE_H

#include <stddef.h>
#include <sys/types.h>

typedef struct {
  int fd;
  void *tls; /* OpenSSL's SSL, or NULL for plain TCP */
} Wire;

/* Print what went wrong and end the process: a figure that is not right in everything is no figure. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Whether this build can do TLS. */
int wire_has_tls(void);

/* Connect to 127.0.0.1, and with `tls` also shake hands. What follows blocks until `wire_unblock`. */
Wire wire_open(int port, int tls);
void wire_unblock(Wire *wire);

/* Both return the number of bytes moved, or 0 if none can be moved now; a failed connection ends the process. */
size_t wire_send(Wire *wire, const unsigned char *data, size_t size);
size_t wire_receive(Wire *wire, unsigned char *data, size_t size, int *ended);

void wire_close(Wire *wire);

#endif
