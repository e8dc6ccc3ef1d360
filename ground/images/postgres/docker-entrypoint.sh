#!/usr/bin/env bash
# Entry point of the hermetic PostgreSQL image, with the variables, paths and refusals of the official image's, so that one
# compose file works with both.
set -Eeuo pipefail

root_of_data=/var/lib/postgresql
scripts=/docker-entrypoint-initdb.d

say() { printf 'postgres image: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# Sets $1 from the file named by $1_FILE; both at once would be ambiguous.
from_file() {
    local name=$1 file_name="$1_FILE"
    [[ -n ${!file_name:-} ]] || return 0
    [[ -z ${!name:-} ]] || die "both $name and $file_name are set"
    printf -v "$name" '%s' "$(<"${!file_name}")"
    export "${name?}"
    unset "$file_name"
}

settle_settings() {
    local name
    for name in POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB POSTGRES_INITDB_ARGS; do from_file "$name"; done
    : "${POSTGRES_USER:=postgres}" "${POSTGRES_INITDB_ARGS:=}" "${POSTGRES_HOST_AUTH_METHOD:=}" "${POSTGRES_PASSWORD:=}"
    : "${POSTGRES_DB:=$POSTGRES_USER}"
}

# A database of another major version, or in the folder of 17 and earlier, must not be ignored in favour of a new one.
refuse_old_databases() {
    [[ ! -s $PGDATA/PG_VERSION && $PGDATA == "$root_of_data/$PG_MAJOR/docker" ]] || return 0
    local other
    for other in "$root_of_data" "$root_of_data/data" "$root_of_data"/*/docker; do
        [[ ! -s $other/PG_VERSION ]] || die "$other holds a database of another major version or layout"
    done
    if [[ $PG_MAJOR -ge 18 ]] && mountpoint -q "$root_of_data/data" 2>/dev/null; then
        die "$root_of_data/data is a mount: in 18 and later mount the volume at $root_of_data"
    fi
}

prepare_directories() {
    mkdir -p "$PGDATA" /run/postgresql
    chmod 0700 "$PGDATA" || true
    chmod 3775 /run/postgresql || true
    [[ $(id -u) -ne 0 ]] || find "$PGDATA" /run/postgresql \! -user postgres -exec chown postgres '{}' +
}

check_password() {
    [[ -n $POSTGRES_PASSWORD || $POSTGRES_HOST_AUTH_METHOD == trust ]] \
        || die "POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set to make a new database"
}

make_cluster() {
    local arguments
    read -r -a arguments <<<"$POSTGRES_INITDB_ARGS"
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${arguments[@]}"
    local method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption 2>/dev/null)}
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

# On its socket only: a TCP client must not take an unfinished database for a ready one.
start_temporary_server() {
    PGUSER=$POSTGRES_USER pg_ctl --pgdata="$PGDATA" --wait --silent --options="-c listen_addresses='' -p 5432" start
}

stop_temporary_server() {
    PGUSER=$POSTGRES_USER pg_ctl --pgdata="$PGDATA" --mode=fast --wait --silent stop
}

query() {
    PGHOST='' PGPASSWORD=$POSTGRES_PASSWORD psql --no-psqlrc --no-password --quiet --set=ON_ERROR_STOP=1 \
        --username="$POSTGRES_USER" "$@"
}

make_database() {
    [[ $POSTGRES_DB == postgres ]] && return
    query --dbname=postgres --set=db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
}

run_script() {
    say "running $1"
    case $1 in
        *.sh) if [[ -x $1 ]]; then "$1"; else bash "$1"; fi ;;
        *.sql) query --dbname="$POSTGRES_DB" --file="$1" ;;
        *.sql.gz) gunzip -c "$1" | query --dbname="$POSTGRES_DB" ;;
        *) say "ignoring $1" ;;
    esac
}

run_scripts() {
    local script
    for script in "$scripts"/*; do [[ ! -f $script ]] || run_script "$script"; done
}

initialise() {
    check_password
    make_cluster
    start_temporary_server
    make_database
    run_scripts
    stop_temporary_server
    say "the new database is ready"
}

prints_and_exits() {
    local argument
    for argument; do
        case $argument in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
    done
    return 1
}

# Runs again as postgres: only the directories are handled as root.
become_postgres() { exec gosu postgres "$0" "$@"; }

[[ ${1:-} != -* ]] || set -- postgres "$@"
if [[ ${1:-} != postgres ]] || prints_and_exits "$@"; then exec "$@"; fi
refuse_old_databases
prepare_directories
[[ $(id -u) -ne 0 ]] || become_postgres "$@"
settle_settings
[[ -s $PGDATA/PG_VERSION ]] || initialise
exec "$@"
