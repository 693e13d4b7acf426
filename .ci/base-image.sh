#!/usr/bin/env bash
# Make the image that the services' images stand on: .ci/base-image.sh NAME. For machines that reach no image registry;
# elsewhere docker/Dockerfile.* take a public one. It is this machine's Debian release with Python, and pip and apt
# behave in it as they do here. Needs root. An image that exists is left as it is.
set -euo pipefail
. "$(dirname "$0")/debian.sh"

image="$1"
packages=ca-certificates,python3,python3-pip,python3-venv
certificates=/etc/ssl/certs/ca-certificates.crt
pip_files=(/etc/pip.conf ~/.config/pip/pip.conf)

main() {
    docker image inspect "$image" >/dev/null 2>&1 && return
    apt_install debootstrap
    root="$(mktemp -d -p /var/tmp llem-base-XXXX)" # /tmp may be small, or refuse device nodes
    trap 'rm -rf "$root"' EXIT
    debootstrap --variant=minbase --include="$packages" "$(debian_release)" "$root" "$(debian_mirror)" >/dev/null
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    carry_settings
    local variables=(--change "ENV PIP_CERT=$certificates") name
    for name in $(compgen -e PIP_); do
        variables+=(--change "ENV $name=\"${!name}\"")
    done
    tar -C "$root" --create . | docker import "${variables[@]}" - "$image"
}

# What apt was told of proxies and of dates; pip's files, and what its settings name on this machine: certificates and
# folders of wheels.
carry_settings() {
    apt-config dump | grep -E '^Acquire::(Check|https?)' >"$root/etc/apt/apt.conf.d/99carried" || true
    local path
    for path in "$certificates" "${pip_files[@]}" $(pip_settings | tr ' =' '\n\n' | grep '^/' | sort -u); do
        if [ -f "$path" ] || compgen -G "$path/*.whl" >/dev/null; then
            (cd / && cp --recursive --dereference --parents ".$path" "$root")
        fi
    done
}

pip_settings() {
    env | sed -n 's/^PIP_//p'
    cat "${pip_files[@]}" 2>/dev/null || true
}

main
