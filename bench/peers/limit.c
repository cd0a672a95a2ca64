/* The least that a fan-out can cost: `limit PORT SIZE` sends the same frame of SIZE bytes to each
   client, once for each byte that the first client sends; frames of one read go out together.
   When the first client leaves, the next one is it. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 64 };

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int size = atoi(argv[2]), payload = size - 4, on = 1, count = 0;
    static int clients[1 << 16];
    char *frames = malloc((size_t)size * MOST), asked[MOST];
    memset(frames, 'x', (size_t)size * MOST);
    for (int i = 0; i < MOST; i++)
        memcpy(frames + i * size, (char[]){(char)0x81, 126, (char)(payload >> 8), (char)payload}, 4);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int door = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 4096)) return 1;
    for (;;) {
        struct pollfd ready[2] = {{.fd = door, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
        if (count) ready[1].fd = clients[0];
        poll(ready, 2, -1);
        if (ready[0].revents && count < (int)(sizeof clients / sizeof *clients)) {
            int client = accept(door, NULL, NULL);
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            clients[count++] = client;
        }
        if (ready[1].revents) {
            ssize_t events = read(clients[0], asked, MOST);
            if (events <= 0) {
                close(clients[0]);
                memmove(clients, clients + 1, (size_t)--count * sizeof *clients);
                continue;
            }
            for (int i = 1; i < count; i++)
                send(clients[i], frames, (size_t)(size * events), MSG_NOSIGNAL);
        }
    }
}
