#!/usr/bin/env bash
# A Docker engine and Compose v2 on a Debian machine that may have neither and has no systemd.
#   .ci/engine.sh up FOLDER     use the engine that answers, else start one; its log in FOLDER says so
#   .ci/engine.sh down FOLDER   stop the engine that was started, if one was
set -euo pipefail
. "$(dirname "$0")/debian.sh"

start_within_s=60
stop_within_s=60
pid_file=/var/run/docker.pid # dockerd's own: the tests stop and start the engine too

main() {
    log="$2/dockerd.log"
    case $1 in
    up) up ;;
    down) down ;;
    esac
}

up() {
    if ! answers; then
        command -v dockerd >/dev/null || apt_install docker.io iptables
        answers || start # where there is a service manager, the package has started it
    fi
    docker compose version >/dev/null 2>&1 || install_compose
    echo "Docker engine $(docker version --format '{{.Server.Version}}'), Compose $(docker compose version --short)"
}

answers() { docker version >/dev/null 2>&1; }

start() {
    setsid dockerd >"$log" 2>&1 & # in a session of its own: Ctrl-C is for the tests, which then clean up
    for ((waited_s = 0; waited_s < start_within_s; waited_s++)); do
        answers && return
        runs $! || break
        sleep 1
    done
    echo "the Docker engine does not start:" >&2
    tail -n 20 "$log" >&2
    return 1
}

# Debian 12 has Compose v1. Its successor's package installs a plugin for the docker command; the low priority
# leaves all that is installed at this release.
install_compose() {
    if [ "$(debian_release)" = bookworm ]; then
        apt-get update -qq
        echo "deb [signed-by=$debian_keyring] $(debian_mirror) trixie main" >/etc/apt/sources.list.d/llem-trixie.list
        printf 'Package: *\nPin: release n=trixie\nPin-Priority: 100\n' >/etc/apt/preferences.d/llem-trixie
        apt_install --target-release trixie docker-compose
    else
        apt_install docker-compose
    fi
}

down() {
    [ -e "$log" ] && [ -e "$pid_file" ] || return 0
    local pid
    pid="$(<"$pid_file")"
    kill "$pid" 2>/dev/null || return 0
    for ((waited_s = 0; waited_s < stop_within_s; waited_s++)); do
        runs "$pid" || return 0
        sleep 1
    done
    echo "the Docker engine does not stop" >&2
    return 1
}

runs() { [ -e "/proc/$1/exe" ]; } # a zombie has none, and not every init reaps

main "$@"
