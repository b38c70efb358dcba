# Shared by the scripts in this folder; to be sourced, from the root of the repository.
# shellcheck shell=bash

STEP=0
STEPS=0

if [[ -t 1 ]]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'; else BOLD='' DIM='' RED='' GREEN='' PLAIN=''; fi

say() { printf '%s\n' "$*"; }

# fail MESSAGE...: each argument a line; ends the script.
fail() {
    printf '\n%serror:%s %s\n' "$RED$BOLD" "$PLAIN" "$1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

clock() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

# step NAME: a heading with its number and the time since the start.
step() {
    STEP=$((STEP + 1))
    printf '\n%s[%d/%d] %s%s  %s(%s since the start)%s\n' "$BOLD" "$STEP" "$STEPS" "$1" "$PLAIN" "$DIM" "$(clock $SECONDS)" "$PLAIN"
}

# timed NAME COMMAND...: a step that is one command; says how long it took, or what failed and how to run it alone.
timed() {
    local name=$1 began=$SECONDS
    shift
    step "$name"
    printf '%s$ %s%s\n' "$DIM" "$*" "$PLAIN"
    "$@" || fail "$name failed after $(clock $((SECONDS - began)))" "To run it alone: $*"
    printf '%sdone%s in %s\n' "$GREEN" "$PLAIN" "$(clock $((SECONDS - began)))"
}

# packages COMMAND=PACKAGE...: installs the Debian packages whose command is missing; a path may stand for the command.
packages() {
    local pair wanted missing=()
    for pair in "$@"; do
        wanted=${pair%%=*}
        [[ $wanted == /* && -e $wanted ]] || command -v "$wanted" >/dev/null 2>&1 || [[ -x /usr/sbin/$wanted ]] || missing+=("${pair#*=}")
    done
    if ((${#missing[@]} == 0)); then
        say "All packages are there."
        return
    fi
    say "Missing packages: ${missing[*]}"
    command -v apt-get >/dev/null || fail "this machine has no apt-get" "Install by hand what provides: ${missing[*]}"
    ((EUID == 0)) || fail "packages are missing, and only root may install them" "Run: sudo apt-get install ${missing[*]}" "Then run this again."
    # A package that starts its service would take ports of this machine; this tells Debian not to start anything. It does not outlive us.
    local policy=/usr/sbin/policy-rc.d placed=0
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        placed=1
    fi
    local good=1
    apt-get update -q || good=0
    # QEMU's programs come from one source and conflict across versions: where newer qemu-utils were installed from elsewhere, Debian's own
    # must be installed beside Debian's emulator, or the one would remove the other.
    if [[ " ${missing[*]} " == *" qemu-"* ]]; then
        missing+=("qemu-utils=$(apt-cache policy qemu-system-x86 | sed -n 's/^  Candidate: //p')")
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --allow-downgrades "${missing[@]}" || good=0
    ((placed)) && rm -f "$policy"
    ((good)) || fail "apt-get could not install: ${missing[*]}" "Its messages are above."
    # Nor shall it be started at the next boot because we needed its program.
    if [[ -d /run/systemd/system ]]; then
        if [[ " ${missing[*]} " == *" nginx-light "* ]]; then systemctl disable --quiet nginx || true; fi
        if [[ " ${missing[*]} " == *" libvirt-daemon-system "* ]]; then
            systemctl disable --quiet libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirt-guests virtlogd.socket \
                virtlogd-admin.socket virtlockd.socket virtlockd-admin.socket || true
        fi
    fi
}

# rust_toolchain [COMPONENT...]: cargo of at least the version in Cargo.toml, and these components of it.
rust_toolchain() {
    [[ -d ${CARGO_HOME:-$HOME/.cargo}/bin ]] && PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    local wanted have component
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null || fail "cargo is missing" "Install the stable Rust toolchain, $wanted or newer, for example with rustup. Debian's own is too old."
    have=$(cargo --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -1) == "$wanted" ]] ||
        fail "cargo $have is too old, $wanted is needed" "Run: rustup update stable"
    for component in "$@"; do
        cargo "$component" --version >/dev/null 2>&1 || fail "cargo $component is missing" "Run: rustup component add ${component/fmt/rustfmt}"
    done
    say "cargo $have"
}
