#!/usr/bin/env bash
# How soon the engine sees that an executor has ended: from the last line that the executor writes (it still has to send
# its last message and to exit then, so this is an upper bound) to the event in the orchestrator. Median of 60 stories.
# Usage: benches/exit.sh [path of the program]; builds the release one when none is given.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-}
if [ -z "$program" ]; then
    cargo build --release --locked --quiet
    program=$PWD/target/release/ai-sdlc
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
git init --quiet --initial-branch trunk
git -c user.name=x -c user.email=x@example.org commit --quiet --allow-empty --message first
git config user.name x
git config user.email x@example.org
"$program" init 2>/dev/null
for number in $(seq 1 60); do
    id=$(printf 'S-%04d' "$number")
    mkdir -p ".ai-sdlc/stories/$id"
    printf -- '---\nid: %s\ntitle: Nothing\nstatus: ready\nagent: script\n---\n\n```sh\ntrue\n```\n' "$id" \
        > ".ai-sdlc/stories/$id/story.md"
done
AI_SDLC_LOG_LEVEL=debug "$program" run --concurrent 2 --quiet
run=.ai-sdlc/runs/$(cat .ai-sdlc/runs/latest)
# Both logs begin each line with the time, to the microsecond.
ms() { date -d "$1" +%s%6N; }
grep 'event=Exited' "$run/orchestrator.log" | while read -r seen rest; do
    id=$(printf '%s' "$rest" | grep -o 'S-[0-9]*' | head -n 1)
    said=$(grep 'the attempt ends' "$run/attempts/$id-1/log" | awk '{print $1}')
    echo $(($(ms "$seen") - $(ms "$said")))
done | sort -n | awk '{ all[NR] = $1 } END {
    printf "%d ends, seen after %.2f ms (median), %.2f ms (p90), %.2f ms (longest)\n",
        NR, all[int((NR + 1) / 2)] / 1000, all[int(NR * 0.9)] / 1000, all[NR] / 1000 }'
