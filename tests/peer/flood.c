// Sends one Ethernet frame again and again to QEMU's end of a socket pair, as fast as the host can: the
// datagrams of `-netdev dgram`. Ends when told to (SIGTERM), or after a minute.
//
//   flood PORT_OF_QEMU DESTINATION        52:54:00:00:00:02
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_BYTES 60
#define LONGEST_SECONDS 60

int main(int Count, char **Arguments)
{
    unsigned char Frame[FRAME_BYTES] = {[6] = 0x02, [11] = 0x01, [12] = 0x88, [13] = 0xB5};
    if (Count != 3 || sscanf(Arguments[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &Frame[0], &Frame[1],
                             &Frame[2], &Frame[3], &Frame[4], &Frame[5]) != 6) {
        fprintf(stderr, "usage: flood PORT ADDRESS\n");
        return 2;
    }
    const struct sockaddr_in Peer = {.sin_family = AF_INET,
                                     .sin_port = htons((unsigned short)atoi(Arguments[1])),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int Socket = socket(AF_INET, SOCK_DGRAM, 0);
    if (Socket < 0 || connect(Socket, (const struct sockaddr *)&Peer, sizeof(Peer)) != 0) {
        perror("flood");
        return 1;
    }
    alarm(LONGEST_SECONDS);
    for (;;) {
        (void)!send(Socket, Frame, sizeof(Frame), 0);
    }
}
