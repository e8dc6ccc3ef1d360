#!/bin/sh
# Writes HAProxy's configuration from the environment, then runs it. The variable with the name of a section of the Docker
# API opens that section when it is 1; the same holds for methods other than GET and HEAD.
set -eu

sections='AUTH BUILD COMMIT CONFIGS CONTAINERS DISTRIBUTION EVENTS EXEC GRPC IMAGES INFO NETWORKS NODES PLUGINS SECRETS
    SERVICES SESSION SWARM SYSTEM TASKS VERSION VOLUMES'

is_on() {
    case "$(printenv "$1" || true)" in 1 | true | yes | on) return 0 ;; esac
    return 1
}

open_paths() {
    for section in $sections; do
        if is_on "$section"; then printf '%s|' "$section" | tr '[:upper:]' '[:lower:]'; fi
    done
    if is_on PING; then printf '_ping|'; fi
    printf 'nothing-more'
}

open_methods() {
    printf 'GET HEAD'
    for method in POST DELETE PUT PATCH; do
        if is_on "$method"; then printf ' %s' "$method"; fi
    done
}

configuration() {
    cat <<END
global
    log stdout format raw daemon $LOG_LEVEL
    maxconn 1000

defaults
    mode http
    log global
    option httplog
    timeout connect 10s
    timeout client 10m
    timeout server 10m
    timeout http-request 10s

frontend api
    bind :2375
    acl open_method method $(open_methods)
    acl open_path path,url_dec -m reg ^(/v[0-9.]+)?/($(open_paths))(/.*)?\$
    # These paths read a container's files and streams or write to its input, although their method is GET.
    acl inside_a_container path,url_dec -m reg -i /containers/[^/]+/(archive|attach|exec|export|logs)
    acl climbing path,url_dec -m sub ..
    http-request deny unless open_method open_path
    http-request deny if climbing or inside_a_container
    default_backend engine

backend engine
    server socket unix@$SOCKET_PATH
END
}

configuration >/tmp/haproxy.cfg
if [ "${1:-}" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
