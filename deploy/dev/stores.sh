# shellcheck shell=bash
# A private Postgres and Redis: on loopback, on free ports, behind passwords, with their data in the stack.

need_stores() {
    [ -n "$(postgres_bin)" ] || need_packages postgresql 'Postgres, which keeps the truth'
    need redis-server redis-server 'Redis, which carries the nudges'
}

# The directory of Postgres's programs: of the version that the data are of, else the newest.
postgres_bin() {
    local version dir
    version=$(cat "$STACK/postgres/PG_VERSION" 2>/dev/null || true)
    dir=$(compgen -G "/usr/lib/postgresql/${version:-*}/bin" | sort -V | tail -n 1) || true
    if [ ! -x "$dir/postgres" ]; then
        dir=$(readlink -f "$(command -v postgres)" || true)
        dir=${dir%/*}
        [ -z "$version" ] || [[ "$("$dir/postgres" --version 2>/dev/null)" == *" $version."* ]] || dir=
    fi
    printf '%s\n' "$dir"
}

# A port that nobody listens on now, below those that the kernel hands out itself.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    printf '%s\n' "$port"
}

# DIRECTORY COMMAND…: sets POSTGRES to the command that runs it there: under an unprivileged user when
# we are root, and with an environment that holds none of our keys. That user may not be able to walk to
# the directory (a clone in /root), so it gets it as an open file: descriptor 7, see the callers.
as_postgres() {
    local dir=$1 user
    shift
    POSTGRES=(env -i PATH=/usr/bin:/bin LC_ALL=C "$@")
    if [ "$(id -u)" = 0 ]; then
        user=postgres
        id -u $user >/dev/null 2>&1 || user=nobody
        chown -R "$user" "$dir"
        POSTGRES=(setpriv "--reuid=$user" "--regid=$(id -g $user)" --clear-groups "${POSTGRES[@]}")
    fi
    POSTGRES=(env -C / "${POSTGRES[@]}")
}

postgres_init() {
    local bin=$1 new=$STACK/postgres.new password=$STACK/secret/.initdb
    say "Making a new Postgres database in $STACK/postgres."
    rm -rf "$new" "$password"
    mkdir -p "$new" "$STACK/log"
    secret postgres >/dev/null
    cp "$STACK/secret/postgres" "$password"
    as_postgres "$new" "$bin/initdb" -D /proc/self/fd/7 --username=signalbox --auth=scram-sha-256 \
        --pwfile=/dev/stdin --encoding=UTF8 --locale=C --no-sync
    [ "$(id -u)" != 0 ] || chown --reference="$new" "$password"
    "${POSTGRES[@]}" <"$password" 7<"$new" >"$STACK/log/initdb.log" 2>&1 || {
        rm -f "$password"
        die_with_log initdb "Postgres could not make its files"
    }
    rm -f "$password"
    mv "$new" "$STACK/postgres"
}

# OPTION…: starts it, makes the database "signalbox", exports DATABASE_URL.
postgres_start() {
    local bin port try option options=()
    bin=$(postgres_bin)
    [ -n "$bin" ] || die "Postgres $(cat "$STACK/postgres/PG_VERSION" 2>/dev/null) is needed for the data in $STACK/postgres, and isn't installed"
    [ -d "$STACK/postgres" ] || postgres_init "$bin"
    for option in "$@"; do options+=(-c "$option"); done
    for try in 1 2 3 4 5; do
        port=$(free_port)
        as_postgres "$STACK/postgres" "$bin/postgres" -D /proc/self/fd/7 -c listen_addresses=127.0.0.1 \
            -c "port=$port" -c unix_socket_directories= "${options[@]}"
        spawn postgres "${POSTGRES[@]}" 7<"$STACK/postgres"
        if wait_line postgres 'ready to accept connections' 60; then
            PGBIN=$bin PGPORT=$port
            DATABASE_URL="postgres://signalbox:$(secret postgres)@127.0.0.1:$port/signalbox"
            export DATABASE_URL
            [ "$(sql postgres -c "select 1 from pg_database where datname = 'signalbox'")" = 1 ] ||
                sql postgres -c 'create database signalbox'
            return 0
        fi
        grep -qs 'in use' "$STACK/log/postgres.log" || break
        stop postgres INT 5
        [ "$try" != 5 ] || break
    done
    die_with_log postgres "Postgres did not start"
}

# DATABASE ARGUMENT…: psql on the private server, bare and strict.
sql() {
    local database=$1
    shift
    PGPASSWORD=$(secret postgres) "$PGBIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "$PGPORT" -U signalbox -d "$database" "$@"
}

# DATABASE: makes it anew and applies the migrations in their order.
migrate_fresh() {
    local file
    sql postgres -c "drop database if exists $1" -c "create database $1" 2>/dev/null
    for file in migrations/*.sql; do
        [ -e "$file" ] || continue
        sql "$1" -1 -f "$file" >/dev/null || return 1
    done
}

# yes|no: whether it keeps its data over a crash. Exports REDIS_URL.
redis_start() {
    local port try config=$STACK/secret/redis.conf
    mkdir -p "$STACK/redis"
    for try in 1 2 3 4 5; do
        port=$(free_port)
        cat >"$config" <<END
bind 127.0.0.1
port $port
requirepass $(secret redis)
dir "$STACK/redis"
appendonly $1
save ""
daemonize no
END
        spawn redis redis-server "$config"
        if wait_line redis 'eady to accept connections' 30; then
            REDIS_URL="redis://:$(secret redis)@127.0.0.1:$port"
            export REDIS_URL
            return 0
        fi
        grep -qsE 'in use|Failed listening' "$STACK/log/redis.log" || break
        stop redis TERM 5
        [ "$try" != 5 ] || break
    done
    die_with_log redis "Redis did not start"
}

stores_stop() {
    stop redis TERM 10
    stop postgres INT 30
}

# shellcheck disable=SC2034 # for the scripts
# For data that nobody will miss: as fast as it goes, with room for many tests at once.
# Whoever drops a database waits for a checkpoint that takes its time, and for connections that hang half-way in.
FAST_POSTGRES=(fsync=off synchronous_commit=off full_page_writes=off max_connections=300 checkpoint_timeout=1d
    checkpoint_completion_target=0 authentication_timeout=5s)
