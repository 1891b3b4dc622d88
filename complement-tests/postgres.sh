#!/bin/sh
# A throw-away PostgreSQL cluster for tests: trusts everybody on the loopback, keeps nothing that matters.
#
#   postgres.sh start DIRECTORY PORT    creates the cluster if there is none, starts it, prints its URL
#   postgres.sh stop DIRECTORY [PORT]   stops it; DIRECTORY may be deleted then
#
# PG_BIN names the directory of initdb and pg_ctl, where that is not the newest Debian installs. PG_FSYNC=on makes it as
# durable as a real one; without, tests are faster. As root it runs as the user "postgres", whom DIRECTORY must let in.
set -eu

usage() { sed -n '4,5s/^# *//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
command=$1 directory=$2 port=${3:-}
bin=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)}
[ -x "$bin/pg_ctl" ] || { echo "no pg_ctl in '$bin': install PostgreSQL or set PG_BIN" >&2; exit 1; }

as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        cd / && setpriv --reuid=postgres --regid=postgres --init-groups env -u PGDATA "$@"
    else
        "$@"
    fi
}

case $command in
start)
    [ -n "$port" ] || usage
    mkdir -p "$directory"
    directory=$(cd "$directory" && pwd)
    if [ "$(id -u)" = 0 ]; then chown postgres: "$directory"; fi
    if [ ! -e "$directory/data/PG_VERSION" ]; then
        as_postgres "$bin/initdb" -D "$directory/data" -U nudge -A trust -E UTF8 --locale=C --no-sync >"$directory/initdb.log"
    fi
    if ! as_postgres "$bin/pg_ctl" -D "$directory/data" status >/dev/null; then
        as_postgres "$bin/pg_ctl" -D "$directory/data" -l "$directory/postgres.log" -w start -o \
            "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$directory -c fsync=${PG_FSYNC:-off} \
             -c max_connections=300" >/dev/null
    fi
    echo "postgres://nudge@127.0.0.1:$port/postgres"
    ;;
stop)
    as_postgres "$bin/pg_ctl" -D "$(cd "$directory" && pwd)/data" -m fast -w stop >/dev/null
    ;;
*) usage ;;
esac
