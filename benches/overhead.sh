#!/usr/bin/env bash
# What a story costs besides its own work: 64 stories of `true`, 16 at a time, against `xargs -P 16` that runs
# `git worktree add; true; git worktree remove`. Both on tmpfs, in turn, in the same run; compared by CPU time (user +
# system, all processes), which other work on the machine disturbs less than wall time.
#
# Plain git fails when it adds worktrees in parallel (about one in five here), so the peer does it under a lock, as
# anybody who wants it to work has to.
#
#   benches/overhead.sh [ROUNDS] [STORIES] [CONCURRENT] [FILES]
set -euo pipefail
rounds=${1:-5} stories=${2:-64} concurrent=${3:-16} files=${4:-200}
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
binary=$PWD/target/release/ai-sdlc

base=$(mktemp -d "${BENCH_TMP:-/dev/shm}/ai-sdlc-bench-XXXXXX")
trap 'rm -rf "$base"' EXIT
export HOME=$base/home XDG_RUNTIME_DIR=$base/run GIT_CONFIG_NOSYSTEM=1
mkdir -p "$HOME" "$XDG_RUNTIME_DIR"
git config --global user.name bench
git config --global user.email bench@localhost
git config --global init.defaultBranch main

make_repository() { # folder
    git init -q "$1"
    for n in $(seq "$files"); do
        mkdir -p "$1/dir$((n % 20))"
        head -c 4000 /dev/zero | tr '\0' 'x' >"$1/dir$((n % 20))/file$n.txt"
    done
    git -C "$1" add -A
    git -C "$1" commit -qm begin
}

make_board() { # folder
    (cd "$1" && "$binary" init 2>/dev/null)
    for n in $(seq "$stories"); do
        id=$(printf 'S-%04d' "$n")
        mkdir -p "$1/.ai-sdlc/stories/$id"
        # shellcheck disable=SC2016
        printf -- '---\nid: %s\ntitle: Nothing %s\nslug: nothing\npriority: %s\nstatus: ready\nagent: script\n---\n\n```sh\ntrue\n```\n' \
            "$id" "$n" "$n" >"$1/.ai-sdlc/stories/$id/story.md"
    done
}

ours() { # folder
    (cd "$1" && "$binary" run --concurrent "$concurrent" --quiet)
}

peer() { # folder
    mkdir "$1/../peer-worktrees"
    # shellcheck disable=SC2016
    (cd "$1" && seq "$stories" | xargs -P "$concurrent" -I N sh -ec '
        flock .git/bench.lock git worktree add -q -b story-N ../peer-worktrees/N
        (cd ../peer-worktrees/N && true)
        flock .git/bench.lock git worktree remove ../peer-worktrees/N')
}

measure() { # name: appends CPU and wall seconds of one run to files
    local folder=$base/round
    rm -rf "$folder" && mkdir "$folder"
    make_repository "$folder/repository"
    [ "$1" = peer ] || make_board "$folder/repository"
    sync
    local TIMEFORMAT='%U %S %R' times
    times=$({ time "$1" "$folder/repository" >/dev/null 2>"$base/errors"; } 2>&1)
    if [ -s "$base/errors" ]; then
        cat "$base/errors" >&2
        exit 1
    fi
    [ "$1" = peer ] || [ "$(git -C "$folder/repository" worktree list | wc -l)" = 1 ] || {
        echo "worktrees are left" >&2
        exit 1
    }
    echo "$times" | awk '{ print $1 + $2 }' >>"$base/$1.cpu"
    echo "$times" | awk '{ print $3 }' >>"$base/$1.wall"
}

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

measure ours && measure peer # warm up
rm -f "$base"/*.cpu "$base"/*.wall
for _ in $(seq "$rounds"); do
    measure ours
    measure peer
done

printf '%s stories of `true`, %s at a time, %s files, median of %s rounds\n' "$stories" "$concurrent" "$files" "$rounds"
for name in ours peer; do
    cpu=$(median "$base/$name.cpu") wall=$(median "$base/$name.wall")
    awk -v name="$name" -v cpu="$cpu" -v wall="$wall" -v n="$stories" \
        'BEGIN { printf "%-5s %6.2f s CPU (%5.1f ms a story)  %6.2f s wall\n", name, cpu, cpu * 1000 / n, wall }'
done
paste "$base/ours.cpu" "$base/peer.cpu" | awk '{ print $1 / $2 }' >"$base/ratio.cpu"
paste "$base/ours.wall" "$base/peer.wall" | awk '{ print $1 / $2 }' >"$base/ratio.wall"
printf 'ratio, pair by pair: %.2f in CPU time, %.2f in wall time\n' "$(median "$base/ratio.cpu")" "$(median "$base/ratio.wall")"
