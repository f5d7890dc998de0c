# shellcheck shell=bash
# What the development scripts share: words, processes that we can find again, and missing packages.

set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
[ ! -d "${HOME:-/}/.cargo/bin" ] || PATH=$HOME/.cargo/bin:$PATH
unset MAKEFLAGS MFLAGS MAKELEVEL DOCKER_CONTEXT CDPATH

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
DEV=${SIGNALBOX_DEV_DIR:-$ROOT/.dev}
[ -d "$DEV" ] || (umask 077 && mkdir -p "$DEV")
DEV=$(cd "$DEV" && pwd -P)
# Where the processes of this script keep their records, logs and data; a script may choose its own.
STACK=$DEV
cd "$ROOT"
# Queries are compiled from .sqlx unless somebody says otherwise.
export SQLX_OFFLINE=${SQLX_OFFLINE:-true}

# --- words ---------------------------------------------------------------------------------------

# Everything meant for people goes to stderr: stdout is for the lines that scripts read.
say() { printf '%s\n' "$*" >&2; }

# SENTENCE [STATUS]: the one clear sentence, and the end.
die() {
    say "signalbox: $1"
    exit "${2:-1}"
}

# NAME SENTENCE: the end of a log, then the sentence; it's for the caller to go on or not.
tell_with_log() {
    local log=$STACK/log/$1.log
    if [ -s "$log" ]; then
        say "--- the last lines of $log"
        tail -n 20 "$log" >&2
        say "---"
    fi
    say "signalbox: $2"
    return 1
}

die_with_log() { tell_with_log "$1" "$2" || exit 1; }

on_terminal() { [ -t 0 ] && [ -t 1 ]; }

random_word() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# NAME: a secret of this stack, made once, readable by its owner alone.
secret() {
    local file=$STACK/secret/$1
    [ -s "$file" ] || (umask 077 && mkdir -p "$STACK/secret" && random_word 24 >"$file")
    cat "$file"
}

# --- processes -----------------------------------------------------------------------------------

# A record is a file "PID START BOOT". A pid alone may belong to somebody else by now; together with
# the start time and the boot it names one process for ever.

BOOT=$(cat /proc/sys/kernel/random/boot_id)

# PID: sets STATE, PARENT, SESSION, TERMINAL and START of it; fails when it has gone.
stat_of() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    line=${line##*) }
    # shellcheck disable=SC2086 # the fields are to be split
    set -- $line
    STATE=$1 PARENT=$2 SESSION=$4 TERMINAL=$5 START=${20}
}

# RECORD PID
write_record() {
    stat_of "$2" || return 1
    mkdir -p "${1%/*}"
    printf '%s %s %s\n' "$2" "$START" "$BOOT" >"$1.$BASHPID"
    mv -f "$1.$BASHPID" "$1"
}

# RECORD: sets PID when that very process is still there, and fails otherwise.
recorded() {
    local pid start boot
    { read -r pid start boot <"$1"; } 2>/dev/null || return 1
    [ "${boot:-}" = "$BOOT" ] && stat_of "$pid" && [ "$STATE" != Z ] && [ "$START" = "$start" ] && PID=$pid
}

running() { recorded "$STACK/run/$1"; }

# Whether this stack has records, of what runs or of what a killed script left.
left_something() { compgen -G "$STACK/run/[a-z]*" >/dev/null; }

# NAME COMMAND…: starts a service, in a session of its own (a Ctrl-C in the terminal isn't for it), with a record
# that it writes itself before it begins, and with its words in its log. A shell's background children
# ignore SIGINT, and so would all of theirs: hence the reset.
spawn() {
    spawn_logged "$@"
    disown "$SPAWNED"
}

spawn_logged() {
    local name=$1
    shift
    mkdir -p "$STACK/log"
    [ ! -e "$STACK/log/$name.log" ] || mv -f "$STACK/log/$name.log" "$STACK/log/$name.log.1"
    spawn_into "$name" "$@" >"$STACK/log/$name.log" 2>&1
}

# The same, but its words go where ours do.
spawn_into() {
    local name=$1
    shift
    (
        write_record "$STACK/run/$name" "$BASHPID"
        exec setsid env --default-signal=INT,QUIT,PIPE "$@" 8>&-
    ) </dev/null &
    SPAWNED=$!
    # Ours too, so that it stands at once; its own is for the case that we are killed right here.
    write_record "$STACK/run/$name" "$SPAWNED" || true
}

# Waits for what was just spawned and takes its status, and lets a signal through at once.
await() {
    local sleeper
    while kill -0 "$SPAWNED" 2>/dev/null; do
        make_waits || exit "$STATUS_OF_SIGNAL"
        sleep 1 &
        sleeper=$!
        wait -n "$SPAWNED" "$sleeper" || true
        kill "$sleeper" 2>/dev/null || true
    done
    wait "$SPAWNED"
}

# NAME COMMAND…: a step that takes its time.
step() {
    local name=$1 status=0
    spawn_into "$@" >&2
    await || status=$?
    rm -f "$STACK/run/$name"
    return "$status"
}

# The same, told to a log.
quiet_step() {
    local name=$1 status=0
    spawn_logged "$@"
    await || status=$?
    rm -f "$STACK/run/$name"
    return "$status"
}

# RECORD SECONDS
wait_gone() {
    local end=$((SECONDS + $2))
    while recorded "$1"; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.05
    done
}

# NAME SIGNAL SECONDS: asks, waits, then insists; also with what it left behind in its session.
stop() {
    local record=$STACK/run/$1 pid
    if recorded "$record"; then
        pid=$PID
        kill -s "$2" "$pid" 2>/dev/null || true
        if ! wait_gone "$record" "$3"; then
            say "signalbox: $1 did not stop in $3 s, killing it"
            kill -s KILL "$pid" 2>/dev/null || true
            wait_gone "$record" 5 || say "signalbox: $1 (pid $pid) is still there"
        fi
    fi
    kill_session "$record"
    rm -f "$record"
}

# RECORD: ends what is left of the session that this process led.
kill_session() {
    local pid start boot proc
    { read -r pid start boot <"$1"; } 2>/dev/null || return 0
    [ "$boot" = "$BOOT" ] || return 0
    for proc in /proc/[0-9]*; do
        stat_of "${proc#/proc/}" || continue
        if [ "$SESSION" = "$pid" ] && [ "$START" -ge "$start" ]; then
            kill -s KILL "${proc#/proc/}" 2>/dev/null || true
        fi
    done
}

# NAME PATTERN SECONDS: waits for a line in the log; fails when the process ends or the time is up.
wait_line() {
    local log=$STACK/log/$1.log end=$((SECONDS + $3))
    until grep -qsE -- "$2" "$log"; do
        running "$1" || { grep -qsE -- "$2" "$log" && return 0; } || return 1
        [ "$SECONDS" -le "$end" ] || return 1
        make_waits || exit "$STATUS_OF_SIGNAL"
        pause 0.1
    done
}

# A sleep that a signal may cut short.
pause() {
    sleep "$1" &
    wait $! || true
}

# Tells whether `make` still waits for us. A SIGINT sent to make alone isn't passed on, it only waits;
# while it does, the signal stands among its blocked ones.
make_waits() {
    local name value blocked=0
    stat_of $$
    [ "$PARENT" = "$PPID" ] || return 1
    { read -r name <"/proc/$PPID/comm"; } 2>/dev/null || return 1
    [ "$name" = make ] || return 0
    while read -r name value; do
        [ "$name" != SigBlk: ] || blocked=$((0x$value))
    done 2>/dev/null <"/proc/$PPID/status"
    [ $((blocked & 7)) = 0 ]
}

# WHAT: one at a time in this stack. A record, not a held lock: what outlives us must not hold it.
take_turn() {
    mkdir -p "$STACK/run"
    exec 8>"$STACK/run/.lock"
    flock 8
    if recorded "$STACK/run/.supervisor"; then
        die "$1 is already running here (pid $PID, in $STACK)" 2
    fi
    write_record "$STACK/run/.supervisor" $$
    exec 8>&-
}

# COMMAND [STATUS]: calls it however we end, once. A signal is an orderly end, with status 0 if not told.
at_the_end() {
    trap '' PIPE
    AT_THE_END=$1
    trap finish EXIT
    STATUS_OF_SIGNAL=${2:-0}
    trap 'exit $STATUS_OF_SIGNAL' INT TERM HUP
}

finish() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    "$AT_THE_END"
    rm -f "$STACK/run/.supervisor"
    exit "$status"
}

# A shell started with SIGINT ignored (as from another script's background) can't trap it; start anew.
heed_interrupts() {
    local ignored
    ignored=$(sed -n 's/^SigIgn:\t*//p' /proc/$$/status)
    [ $((0x$ignored & 2)) = 0 ] || exec env --default-signal=INT,QUIT "$@"
}

# --- places --------------------------------------------------------------------------------------

# A Unix socket's path has 108 bytes. NAME: a short-named directory for this stack, made once; whoever
# stops the stack calls drop_short_dir.
short_dir() {
    local dir
    mkdir -p "$STACK/run"
    if ! dir=$(cat "$STACK/run/.short" 2>/dev/null) || [ ! -d "$dir" ]; then
        if [ "$(id -u)" = 0 ] && [ -w /run ]; then
            dir=$(mktemp -d /run/signalbox.XXXXXX)
        else
            dir=$(mktemp -d "${XDG_RUNTIME_DIR:-/tmp}/signalbox.XXXXXX")
        fi
        printf '%s\n' "$dir" >"$STACK/run/.short"
    fi
    printf '%s\n' "$dir"
}

drop_short_dir() {
    local dir
    dir=$(cat "$STACK/run/.short" 2>/dev/null) || return 0
    case $dir in
        */signalbox.??????) rm -rf --one-file-system "$dir" ;;
    esac
    rm -f "$STACK/run/.short"
}

# Where run directories and gate sockets go: in the stack, by a short name if its own is too long.
work_dir() {
    local dir
    mkdir -p "$STACK/work"
    if [ ${#STACK} -le 40 ]; then
        printf '%s\n' "$STACK/work"
    else
        dir=$(short_dir)
        ln -sfn "$STACK/work" "$dir/work"
        printf '%s\n' "$dir/work"
    fi
}

# Agents of the process engine whose worker didn't get to end them: without a terminal, they work in our
# directory or keep one who does.
kill_stray_agents() {
    local proc argv short
    short=$(cat "$STACK/run/.short" 2>/dev/null) || true
    [ -n "$short" ] || short=$STACK
    for proc in /proc/[0-9]*; do
        mapfile -d '' -t argv 2>/dev/null <"$proc/cmdline" || continue
        [[ $(readlink "$proc/cwd" 2>/dev/null) == "$STACK/work"/* ]] ||
            [[ ${argv[1]:-} == cell && ${argv[2]:-} == @("$STACK"|"$short")/work/* ]] || continue
        stat_of "${proc#/proc/}" || continue
        [ "$TERMINAL" != 0 ] || kill -s KILL "${proc#/proc/}" 2>/dev/null || true
    done
}

# --- packages ------------------------------------------------------------------------------------

NEEDS=()

# COMMAND PACKAGES WHY: notes the packages when the command is missing.
need() { command -v "$1" >/dev/null || need_packages "$2" "$3"; }

need_packages() { NEEDS+=("$1"$'\t'"$2"); }

need_rust() {
    local least have
    # Debian 12 keeps a current Rust under names of its own, for its browsers.
    need cargo 'cargo-web rustc-web gcc libc6-dev' 'the Rust compiler'
    need cc 'gcc libc6-dev' 'a linker for Rust'
    command -v cargo >/dev/null || return 0
    least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    have=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$least" "$have" | sort -V | head -n 1)" = "$least" ] ||
        die "cargo $have is too old, Signalbox needs Rust $least: update it ('rustup update stable'), or remove it and Debian's will be installed" 2
}

# Of the toolchain that is in use: Debian's packages are of no use to one from rustup.
need_lints() {
    case $(command -v cargo) in
        '' | /usr/bin/cargo)
            need cargo-fmt rustfmt-web 'to check the format'
            need cargo-clippy rust-web-clippy 'to check the lints'
            ;;
        *) if command -v rustup >/dev/null; then
            cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt >&2 || true
            cargo clippy --version >/dev/null 2>&1 || rustup component add clippy >&2 || true
        fi ;;
    esac
}

knows_system() { command -v apt-get >/dev/null && (. /etc/os-release && [[ " $ID ${ID_LIKE:-} " == *" debian "* ]]); }

can_install() {
    knows_system || return 1
    [ "$(id -u)" = 0 ] || if on_terminal; then sudo -v; else sudo -n true; fi 2>/dev/null
}

# Installs what was noted, by the system's packages, after saying what and why.
install_needs() {
    local entry sudo=() packages=()
    [ ${#NEEDS[@]} -gt 0 ] || return 0
    say "Missing on this system:"
    for entry in "${NEEDS[@]}"; do
        say "  ${entry%%$'\t'*} - ${entry#*$'\t'}"
        # shellcheck disable=SC2206 # a list in one word
        packages+=(${entry%%$'\t'*})
    done
    NEEDS=()
    knows_system ||
        die "this isn't a Debian, so these can't be installed from here: install what they are called on your system, and start again" 2
    can_install || die "only root can install them: apt-get install ${packages[*]}" 2
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    say "Installing them with apt-get; their own services are not started. Its words are in $STACK/log/packages.log."
    quiet_services_begin "${sudo[@]}"
    local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -q -y -o DPkg::Lock::Timeout=300)
    quiet_step apt-update "${apt[@]}" update ||
        say "signalbox: apt-get update failed (see $STACK/log/apt-update.log), trying with what is known"
    if ! quiet_step packages "${apt[@]}" install --no-install-recommends "${packages[@]}"; then
        quiet_services_end "${sudo[@]}"
        die_with_log packages "installing the packages failed"
    fi
    quiet_services_end "${sudo[@]}"
    hash -r
}

# Debian starts a service as it installs it, unless this file says no. Ours says so only while we live,
# and an existing one is left alone.
POLICY=/usr/sbin/policy-rc.d

quiet_services_begin() {
    UNITS=$(system_units)
    if [ ! -e $POLICY ] || grep -qs 'for signalbox only' $POLICY; then
        printf '#!/bin/sh\n# for signalbox only, while process %s installs packages\n[ ! -d /proc/%s ] || exit 101\n' $$ $$ |
            "$@" tee $POLICY >/dev/null
        "$@" chmod 755 $POLICY
    fi
}

# Also not at the next boot: what came with our packages stays off.
quiet_services_end() {
    local unit
    if grep -qs 'for signalbox only' $POLICY; then "$@" rm -f $POLICY; fi
    [ -d /run/systemd/system ] || return 0
    for unit in $(system_units); do
        [[ " $UNITS " == *" $unit "* ]] || "$@" systemctl --quiet disable "$unit" || true
    done
}

system_units() {
    local unit
    for unit in postgresql.service redis-server.service docker.socket docker.service containerd.service; do
        [ ! -e "/lib/systemd/system/$unit" ] || printf '%s ' "$unit"
    done
}

# --- Claude Code, for runs without containers ----------------------------------------------------

need_claude() {
    [ -n "${SIGNALBOX_CLAUDE:-}" ] || command -v claude >/dev/null || [ -e "$DEV/cli/version" ] ||
        need npm 'nodejs npm' 'to install the Claude Code CLI, which the agents are'
}

# Sets SIGNALBOX_CLAUDE: the one on the PATH, else the pinned one under the development directory.
find_claude() {
    local version
    if [ -n "${SIGNALBOX_CLAUDE:-}" ]; then
        claude_answers "$SIGNALBOX_CLAUDE" || die "SIGNALBOX_CLAUDE=$SIGNALBOX_CLAUDE doesn't answer to --version"
    elif command -v claude >/dev/null && claude_answers claude; then
        SIGNALBOX_CLAUDE=$(command -v claude)
    else
        version=$(claude_version)
        SIGNALBOX_CLAUDE=$DEV/cli/node_modules/.bin/claude
        if [ "$(cat "$DEV/cli/version" 2>/dev/null)" != "$version" ] || ! claude_answers "$SIGNALBOX_CLAUDE"; then
            install_claude "$version"
        fi
    fi
    export SIGNALBOX_CLAUDE
}

# Its native binary comes as an optional dependency, put in place by the package's own install script.
install_claude() {
    need_claude
    install_needs
    say "Installing Claude Code $1 under $DEV/cli."
    mkdir -p "$DEV/cli"
    rm -f "$DEV/cli/version"
    quiet_step claude-cli npm install --prefix "$DEV/cli" --no-audit --no-fund --include=optional \
        --ignore-scripts=false "@anthropic-ai/claude-code@$1" ||
        die_with_log claude-cli "npm could not install Claude Code $1"
    claude_answers "$SIGNALBOX_CLAUDE" ||
        die_with_log claude-cli "Claude Code $1 was installed, but '$SIGNALBOX_CLAUDE --version' doesn't answer"
    printf '%s\n' "$1" >"$DEV/cli/version"
}

claude_answers() { DISABLE_AUTOUPDATER=1 timeout 30 "$1" --version >/dev/null 2>&1 </dev/null; }

claude_version() {
    [ -s deploy/agent/claude.version ] || die "deploy/agent/claude.version is missing: it names the Claude Code version to use"
    tr -d '[:space:]' <deploy/agent/claude.version
}

# --- our own binaries ----------------------------------------------------------------------------

target_dir() {
    cargo metadata --format-version 1 --no-deps --offline 2>/dev/null |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# shellcheck source=deploy/dev/stores.sh
. "$ROOT/deploy/dev/stores.sh"
# shellcheck source=deploy/dev/engine.sh
. "$ROOT/deploy/dev/engine.sh"
# shellcheck source=deploy/dev/site.sh
. "$ROOT/deploy/dev/site.sh"
