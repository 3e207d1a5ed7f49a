#!/bin/bash
# In the VM, as root: the product from `dev` to an eviction. /vm/settings names KEYSTEAD, SEED, EVICT_AFTER, UNTIL.
# It prints LIVE and OVER where the host may copy the memory, and goes on when /vm/live and /vm/over are there.
# The marks are made by PostgreSQL from the seed: no script, command line or environment ever holds one.
set -euo pipefail
. ./settings
trap 'cat /tmp/dev.log; tail -n 20 /disk/data/log/*; keystead cluster get vm' ERR
keystead() { "$KEYSTEAD" "$@"; }
within() { # within SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $end ] || { echo "not within its time: $*"; return 1; }; sleep 0.2; done
}
say() { echo "$SECONDS s: $*"; }
for m in fuse loop ext4; do modprobe "$m"; done
mkfs.ext4 -q /dev/vda; mkdir /disk; mount /dev/vda /disk
"$KEYSTEAD" dev --data /disk/data --env /tmp/env --evict-after "$EVICT_AFTER" >/tmp/dev.log 2>&1 & dev=$!
within 120 test -e /tmp/env
. /tmp/env
say "dev is up"
kms() {
  curl -sS --fail-with-body --aws-sigv4 "aws:amz:eu-central-1:kms" \
    --user "$KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID:$KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY" \
    -H 'content-type: application/x-amz-json-1.1' -H "x-amz-target: TrentService.$1" --data-binary "$2" "$KEYSTEAD_AWS_ENDPOINT/"
}
keystead cluster create vm --region eu-central-1 --encryption external >/dev/null
keystead cluster watch vm --until AwaitingKey --timeout 120s >/dev/null
keystead policy render vm --customer-account "$KEYSTEAD_CUSTOMER_ACCOUNT" >/tmp/policy
key=$(kms CreateKey "$(jq -n --rawfile p /tmp/policy '{Policy: $p}')" | jq -r .KeyMetadata.Arn)
keystead cluster associate vm --key-arn "$key" >/dev/null
keystead cluster watch vm --until Ready --timeout 240s >/dev/null
say "the cluster is ready"
# A slow probe can take Ready back for a moment: then no endpoint is shown.
endpoint() { uri=$(keystead cluster get vm --json | jq -er .endpoints.postgres); }
within 60 endpoint
mark="sha256(convert_to('$SEED:' || n % 8, 'utf8'))"
psql -qAt "$uri" -c "create table marks as select n, $mark as raw, encode($mark, 'hex') as text from generate_series(1, 5000) n" -c checkpoint
# A client that reads them and ends, and a file on the disk, beside PostgreSQL's own.
psql -qAt "$uri" -c "table marks" >/dev/null
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
