# What the scripts here need of Debian; to be sourced.

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

apt_install() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The release of this machine, such as bookworm.
debian_release() (. /etc/os-release && echo "$VERSION_CODENAME")

# Where this machine gets its packages from; apt itself reads both forms of its sources.
debian_mirror() {
    apt-get indextargets --format '$(REPO_URI)' \
        "Created-By: Packages" "Component: main" "Codename: $(debian_release)" | sed -n 1p
}
