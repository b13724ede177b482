#!/bin/sh
# After all jobs of array.sbatch: join the parts, and show the whole.
set -e
fastinit merge parts/*.sqlite -o runs.sqlite
fastinit report runs.sqlite -o report.html
