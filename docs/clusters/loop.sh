#!/bin/sh
# Parts without any scheduler: one process each. On several computers, run one part on each.
set -e
parts=${1:-4}
mkdir -p parts
for i in $(seq "$parts"); do
    fastinit compare --schemes he_normal,glorot_uniform --seeds 0:12 --learning-rate 0.1 \
        --iterations 500 --shard "$i/$parts" --store "parts/$i.sqlite" --out "parts/$i" \
        --threads 1 > "parts/$i.txt" &
done
wait
fastinit merge parts/*.sqlite -o runs.sqlite
fastinit report runs.sqlite -o report.html
