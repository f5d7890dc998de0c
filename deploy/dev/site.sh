# shellcheck shell=bash
# Signalbox itself, on stores and an engine that are there: the server, one worker, and in rehearsal the stand-in.

# Sets SIGNALBOX_BIN and CLAUDE_STANDIN to what cargo builds, unless told otherwise.
site_programs() {
    local target=
    [ -n "${SIGNALBOX_BIN:-}" ] || target=$(target_dir)
    export SIGNALBOX_BIN=${SIGNALBOX_BIN:-$target/debug/signalbox}
    export CLAUDE_STANDIN=${CLAUDE_STANDIN:-${SIGNALBOX_BIN%/*}/examples/standin}
}

# ARGUMENT…: runs signalbox without the key, which only the worker may know.
signalbox() { "${WITHOUT_KEY[@]}" "$SIGNALBOX_BIN" "$@"; }
WITHOUT_KEY=(env -u ANTHROPIC_API_KEY -u ANTHROPIC_API_KEY_FILE -u ANTHROPIC_BASE_URL)

site_migrate() {
    quiet_step migrate "${WITHOUT_KEY[@]}" "$SIGNALBOX_BIN" migrate || die_with_log migrate "the database could not be migrated"
}

# NAME PASSWORD
site_superuser() {
    signalbox superuser add "$1" <<<"$2" >"$STACK/log/superuser.log" 2>&1 ||
        die_with_log superuser "the superuser $1 could not be made"
}

# yes|no: whether it is a rehearsal. Sets SITE to its address.
site_start() {
    local worker=(env)
    if [ "$1" = yes ]; then
        spawn standin "${WITHOUT_KEY[@]}" "$CLAUDE_STANDIN" --listen 127.0.0.1:0
        wait_line standin '^ready: ' 20 || die_with_log standin "the stand-in model API did not start"
        worker=("${WITHOUT_KEY[@]}" "ANTHROPIC_BASE_URL=$(ready_word standin)")
    fi
    spawn serve "${WITHOUT_KEY[@]}" "$SIGNALBOX_BIN" serve
    spawn work "${worker[@]}" "$SIGNALBOX_BIN" work
    if ! wait_line serve '^ready: ' 60; then
        ! grep -qi 'in use' "$STACK/log/serve.log" ||
            die_with_log serve "the server found $SIGNALBOX_LISTEN taken; SIGNALBOX_LISTEN=127.0.0.1:0 takes a free port"
        die_with_log serve "the server did not start"
    fi
    wait_line work '^ready: ' 60 || die_with_log work "the worker did not start"
    # shellcheck disable=SC2034 # for the scripts
    SITE=$(ready_word serve)
}

ready_word() { sed -n 's/^ready: //p' "$STACK/log/$1.log" | head -n 1; }

site_stop() {
    stop migrate TERM 20
    stop serve TERM 10
    # SIGINT ends the runs as well; after SIGTERM they would live on for the worker's next life.
    stop work INT 20
    kill_stray_agents
    stop standin TERM 5
}
