#!/bin/bash
# In the VM, as root: the product from `dev` to an eviction. /vm/settings adds SEED, EVICT_AFTER, UNTIL.
# It prints LIVE and OVER where the host may copy the memory, and goes on when /vm/live and /vm/over are there.
# The marks are made by PostgreSQL from the seed: no script, command line or environment ever holds one.
. ./guest.sh
start --evict-after "$EVICT_AFTER"
create
ready
mark="sha256(convert_to('$SEED:' || n % 8, 'utf8'))"
sql -c "create table marks as select n, $mark as raw, encode($mark, 'hex') as text from generate_series(1, 5000) n" -c checkpoint
# A client that reads them and ends, and a file on the disk, beside PostgreSQL's own.
sql -c "table marks" >/dev/null
hold=$(cat /disk/data/run/hold.pid)
files=$(awk '$5 ~ /keystead-disks.*orchestration/ {print $5; exit}' "/proc/$hold/mountinfo")
printf %s "$SEED:0" | nsenter -m -t "$hold" sh -c "sha256sum >$files/mark; sync -f $files/mark"
say LIVE
within 200 test -e live
kms DisableKey "{\"KeyId\":\"$key\"}" >/dev/null
keystead cluster watch vm --until Frozen --timeout 60s >/dev/null
say "the cluster is frozen"
evicted() { keystead cluster get vm | grep -q 'VolumesAttached .* absent'; }
[ "$UNTIL" = frozen ] || within 120 evicted
say OVER
within 200 test -e over
if [ "$UNTIL" = evicted ]; then grep -h -i evict /disk/data/log/node.log /disk/data/log/hold.log | tail -3 || true; fi
kill "$dev"; wait "$dev" || true
