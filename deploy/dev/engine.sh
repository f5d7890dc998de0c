# shellcheck shell=bash
# Which container engine runs the agents: one that answers, a private one, or none (plain processes).

IMAGE=signalbox-agent:latest
export SIGNALBOX_IMAGE=$IMAGE

engine_answers() {
    command -v docker >/dev/null || return 1
    DOCKER_HOST=$1 timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# Sets FOUND to the address of the engine that the system offers; fails when none answers.
find_engine() {
    local host
    for host in "${DOCKER_HOST:-}" unix:///var/run/docker.sock; do
        [ -n "$host" ] || continue
        case $host in unix://*) [ -S "${host#unix://}" ] || continue ;; esac
        need docker docker.io 'to speak to the container engine that is here'
        install_needs
        if engine_answers "$host"; then
            FOUND=$host
            return 0
        fi
        say "No container engine answers at $host."
    done
    return 1
}

use_engine() {
    export DOCKER_HOST=$1 SIGNALBOX_ENGINE=docker
    say "Container engine: $DOCKER_HOST${2:-}"
    step image deploy/dev/agent-image
}

use_processes() {
    unset DOCKER_HOST
    export SIGNALBOX_ENGINE=process
    find_claude
    say "Engine: plain processes, unsandboxed. Agents run as your user, with all that it may do; this is for a first look only."
    say "Claude Code: $SIGNALBOX_CLAUDE"
}

# ENGINE (docker, process, or nothing: what is there) decides. First, what will be missing for it.
need_engine() {
    case $1 in
        docker)
            [ "$(id -u)" = 0 ] || die "a private container engine needs root: start again as root, or with ENGINE=process" 2
            need_private_engine
            ;;
        process) need_claude ;;
        '') ;;
        *) die "ENGINE is '$1'; it can be docker or process" 2 ;;
    esac
}

# Then it is set up, and what the worker needs to know is exported.
choose_engine() {
    case $1 in
        process) use_processes ;;
        docker)
            private_engine_start || die "the private container engine did not start"
            use_engine "$PRIVATE_ENGINE" ' (private)' || die "the agent image could not be built"
            ;;
        '')
            if [ "${SIGNALBOX_ENGINE:-}" = process ]; then
                use_processes
            elif find_engine; then
                use_engine "$FOUND" || die "the agent image could not be built; ENGINE=process does without one"
            elif [ "${SIGNALBOX_ENGINE:-}" = docker ]; then
                die "SIGNALBOX_ENGINE=docker, but no container engine answers: 'make run ENGINE=docker' starts a private one"
            else
                say "No container engine answers here; 'make run ENGINE=docker' would start a private one."
                use_processes
            fi
            ;;
    esac
}

# For tests: the engine that answers, else a private one. Fails with 1 when none can be had, and with 2
# when there is one, but not the image on it.
test_engine() {
    if find_engine; then
        use_engine "$FOUND" || return 2
    elif [ "$(id -u)" = 0 ] && private_engine_start; then
        use_engine "$PRIVATE_ENGINE" ' (private)' || return 2
    else
        return 1
    fi
}

# --- the private engine --------------------------------------------------------------------------

# It is shared by all that runs from this development directory, for its images take minutes to make:
# each user leaves its own record in engine/users, and the last one to go stops it.

need_private_engine() {
    need dockerd docker.io 'the container engine that keeps agents in their cells'
    need docker docker.io 'to speak to it'
    need docker-init tini 'the first process of each container'
    need debootstrap debootstrap 'to make the base of the agent image where none can be pulled'
    [ -e /etc/ssl/certs/ca-certificates.crt ] || need_packages ca-certificates 'to know whom to trust'
}

private_engine_start() {
    need_private_engine
    install_needs
    local STACK=$DEV/engine us=$$ status=0
    mkdir -p "$STACK/run" "$STACK/users" "$STACK/data"
    exec 8>"$STACK/run/.lock"
    flock 8
    write_record "$STACK/users/$us" $us
    PRIVATE_ENGINE=unix://$(short_dir)/docker.sock
    if running dockerd && engine_answers "$PRIVATE_ENGINE"; then
        say "Using the private container engine that is running already."
    else
        dockerd_stop
        PRIVATE_ENGINE=unix://$(short_dir)/docker.sock
        dockerd_start || {
            status=1
            tell_with_log dockerd "dockerd did not start" || true
        }
    fi
    exec 8>&-
    return "$status"
}

# No bridge and no iptables: agents have no network, and another engine here would be disturbed. In a
# mount namespace of its own its mounts end with it, and the system's containerd is out of sight, which
# it would use otherwise.
dockerd_start() {
    local dir
    dir=$(short_dir)
    echo '{}' >"$STACK/daemon.json"
    # shellcheck disable=SC2016 # for the inner shell
    spawn dockerd unshare --mount --propagation slave sh -c \
        '[ ! -d /run/containerd ] || mount -t tmpfs -o mode=711 tmpfs /run/containerd; exec "$@"' sh \
        dockerd --config-file "$STACK/daemon.json" --data-root "$STACK/data" --exec-root "$dir/x" \
        --pidfile "$dir/pid" -H "$PRIVATE_ENGINE" --bridge=none --iptables=false --ip6tables=false --ip-forward=false
    wait_line dockerd 'API listen on' 60 && engine_answers "$PRIVATE_ENGINE"
}

dockerd_stop() {
    local dir proc children=()
    stop dockerd TERM 30
    # If it died without ending its containers, they and their keepers are known by our directory's name.
    dir=$(cat "$STACK/run/.short" 2>/dev/null) || return 0
    for proc in /proc/[0-9]*; do
        tr '\0' ' ' 2>/dev/null <"$proc/cmdline" | grep -qF -- "-address $dir/x/" || continue
        read -r -a children < <(cat "$proc"/task/*/children 2>/dev/null) || true
        kill -s KILL "${children[@]}" 2>/dev/null || true
        kill -s KILL "${proc#/proc/}" 2>/dev/null || true
    done
    drop_short_dir
}

# Gives up our use of it; the last user stops it.
private_engine_leave() {
    local STACK=$DEV/engine user us=$$
    [ -d "$STACK/users" ] || return 0
    exec 8>"$STACK/run/.lock"
    flock 8
    rm -f "$STACK/users/$us"
    for user in "$STACK"/users/*; do
        recorded "$user" && {
            exec 8>&-
            return 0
        }
        rm -f "$user"
    done
    dockerd_stop
    exec 8>&-
}
