#!/usr/bin/env bash
# What the journal costs: 1,000 trivial stories, 16 at a time, on a disk, with the folder of the runs on that disk and with
# it in memory, where waiting for the disk costs nothing. In turn, in the same run; compared by wall time. Says how often
# the journal has waited for the disk, and for how long in all (on a thread of its own).
#
#   benches/journal.sh [ROUNDS] [STORIES] [CONCURRENT]; the disk is that of BENCH_DISK, else of the current folder
set -euo pipefail
rounds=${1:-3} stories=${2:-1000} concurrent=${3:-16}
disk=${BENCH_DISK:-$PWD}
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
binary=$PWD/target/release/ai-sdlc
base=$(mktemp -d -p "$disk")
memory=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$base" "$memory"' EXIT
export HOME=$base/home XDG_RUNTIME_DIR=$base/run GIT_CONFIG_NOSYSTEM=1
mkdir -p "$HOME" "$XDG_RUNTIME_DIR"
git config --global user.name bench
git config --global user.email bench@localhost
git config --global init.defaultBranch main

once() { # "disk" or "memory": prints the milliseconds that a run took
    rm -rf "$base/repository" "${memory:?}/runs"
    git init -q "$base/repository"
    cd "$base/repository"
    git commit -q --allow-empty -m begin
    "$binary" init 2>/dev/null
    if [ "$1" = memory ]; then
        mkdir "$memory/runs"
        ln -s "$memory/runs" .ai-sdlc/runs
    fi
    for n in $(seq "$stories"); do
        id=$(printf 'S-%04d' "$n")
        mkdir -p ".ai-sdlc/stories/$id"
        printf -- '---\nid: %s\ntitle: Nothing\nslug: nothing\nstatus: ready\nagent: script\n---\n\n```sh\necho done > f%s\n```\n' \
            "$id" "$n" >".ai-sdlc/stories/$id/story.md"
    done
    sync
    began=$(date +%s%3N)
    "$binary" run --concurrent "$concurrent" --quiet
    echo $(($(date +%s%3N) - began))
    grep -ho 'the journal of this run.*' .ai-sdlc/runs/*/orchestrator.log >&2
}

for round in $(seq "$rounds"); do
    # Who is second finds other things in the caches.
    if ((round % 2)); then
        disk_ms=$(once disk) memory_ms=$(once memory)
    else
        memory_ms=$(once memory) disk_ms=$(once disk)
    fi
    echo "round $round: $disk_ms ms with the journal on the disk, $memory_ms ms in memory, ratio $(
        awk "BEGIN { printf \"%.3f\", $disk_ms / $memory_ms }")"
done
