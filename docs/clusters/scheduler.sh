#!/bin/sh
# A Dask scheduler and two workers. On a cluster, each worker is started on a computer of its own.
set -e
address=tcp://127.0.0.1:${PORT:-8786}
dask scheduler --host 127.0.0.1 --port "${PORT:-8786}" --no-dashboard &
scheduler=$!
trap 'kill $scheduler' EXIT
# The workers end when the scheduler does.
for _ in 1 2; do
    dask worker "$address" --nthreads 1 --no-dashboard --no-nanny --death-timeout 60 &
done

fastinit compare --schemes he_normal,glorot_uniform --seeds 0:12 --learning-rate 0.1 \
    --iterations 500 --scheduler "$address" --store runs.sqlite --report report.html
