#!/bin/sh
# Holds new requests to Gitea, and shows the running ones:
#   hold transfers SECONDS SENTENCE       hold new transfers for at most so many seconds, and print the running requests
#   hold all SECONDS SENTENCE             the same with every new request; closes the event streams, which have no end
#   hold none                             let them go on, and print the state as JSON
#   hold status                           print the state
#   hold sessions                         print the running requests as HAProxy does
#   hold close BACKEND                    close the running requests of a backend: streams, or ssh
#   hold healthy                          succeed when HAProxy answers (the health check)
#   hold reachable                        succeed when requests reach a healthy Gitea and its sshd
set -eu

folder=/run/haproxy
# Through the master: a worker that only finishes its requests, because another HAProxy has replaced it, listens no more.
ask() { echo "@1 $*" | socat -t 10 - "UNIX-CONNECT:$folder/master.sock"; }

case "$1" in
    transfers | all)
        # ssh clients get it as bytes in a packet.
        case "$3" in *[!A-Za-z0-9\ .,:-]*) echo "hold: the sentence may contain only letters, digits, spaces and . , : -" >&2 && exit 2 ;; esac
        ask hold "$1" "$2" "$3"
        # Browsers connect again by themselves, and wait like all others.
        [ "$1" = transfers ] || ask shutdown sessions server streams/gitea
        ask show sess
        ;;
    none | status) ask hold "$1" ;;
    sessions) ask show sess ;;
    close) ask shutdown sessions server "$2/gitea" ;;
    healthy)
        # Without the container that holds the network namespace, there is no eth0.
        [ -e /sys/class/net/eth0 ]
        ask hold status | grep -q '"held"'
        ;;
    reachable)
        printf 'GET /api/healthz HTTP/1.0\r\nHost: probe\r\n\r\n' | socat -t 5 - "UNIX-CONNECT:$folder/web.sock" |
            grep -q '^HTTP/1.[01] 200'
        socat -u -T 3 "UNIX-CONNECT:$folder/ssh.sock,readbytes=7" - | grep -q '^SSH-2.0'
        ;;
    *) echo "hold: the first argument must be transfers, all, none, status, sessions, close, healthy or reachable" >&2 && exit 2 ;;
esac
