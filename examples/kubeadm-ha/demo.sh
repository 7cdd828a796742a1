#!/usr/bin/env bash
# A cluster network on this machine: a request to its virtual IP, the path explained, a node lost.
# Usage: make demo, or examples/kubeadm-ha/demo.sh after `make build`. Needs no root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
podway=${PODWAY:-$here/../../target/release/podway}
url=http://10.1.1.200:30000/
export PODWAY_LAB=demo-$$

scratch=$(mktemp -d)
clean_up() {
    local code=$?
    trap - EXIT INT TERM HUP
    "$podway" lab down 2>/dev/null || code=1
    rm -rf "$scratch"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

heading() {
    if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$1"; else printf '\n%s\n' "$1"; fi
}

# Prints a command as one would type it, then runs it.
show() {
    printf '$ podway %s\n' "$*"
    "$podway" "$@"
}

# The text of the first member with this name in JSON on standard input.
member() {
    sed -n "s/.*\"$1\": *\"\\([^\"]*\\)\".*/\\1/p" | head -n 1
}

# One request from the client; prints which pod answered on which node.
ask() {
    "$podway" lab exec client -- podway get --timeout 3 "$url" >"$scratch/answer" 2>"$scratch/error" || return 1
    echo "$(member pod <"$scratch/answer") on $(member node <"$scratch/answer")"
}

# Who has the virtual IP, once it is another node than this one: what is so already is told a moment later.
owner_after() {
    local now=
    for _ in $(seq 50); do
        now=$("$podway" lab status -o json | member owner)
        if [ -n "$now" ] && [ "$now" != "$1" ]; then break; fi
        sleep 0.1
    done
    echo "$now"
}

heading 'Three nodes from examples/kubeadm-ha'
show lab up -f "$here"
show lab status

heading "A client outside of the cluster asks for $url"
show lab exec client -- podway get "$url"

heading 'The way there and back, and what the kernel says to it'
show explain --from client --to 10.1.1.200:30000 --verify
"$podway" explain --from client --to 10.1.1.200:30000 -o svg >path.svg
echo "The same as a picture: $PWD/path.svg"

heading 'The node that holds the virtual IP loses its power'
owner=$("$podway" lab status -o json | member owner)
requests=20
answered=0
for number in $(seq $requests); do
    if [ "$number" -eq 6 ]; then
        show lab kill "node/$owner"
    fi
    if answer=$(ask); then
        answered=$((answered + 1))
        printf '%2d  %s\n' "$number" "$answer"
    else
        printf '%2d  no answer: %s\n' "$number" "$(tail -n 1 "$scratch/error")"
    fi
done
echo "$answered of $requests requests were answered; 10.1.1.200 is now at $(owner_after "$owner")."
if [ "$answered" -lt $((requests - 2)) ]; then
    echo 'That is fewer than the loss of a node explains.' >&2
    exit 1
fi

heading 'Everything goes away'
show lab down
