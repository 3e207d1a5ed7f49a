# What the guests of the VM proofs share; each sources it first. /vm/settings names KEYSTEAD and what the proof adds.
# Emulated on a loaded machine everything is slow: the limits here only end what hangs.
set -Eeuo pipefail
. ./settings
trap 'cat /tmp/dev.log; tail -n 20 /disk/data/log/*; dmesg | tail -n 20; keystead cluster get vm' ERR
keystead() { "$KEYSTEAD" "$@"; }
within() { # within SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $end ] || { echo "not within its time: $*"; return 1; }; sleep 0.2; done
}
say() { echo "$SECONDS s: $*"; }
kms() {
  curl -sS --fail-with-body --aws-sigv4 "aws:amz:eu-central-1:kms" \
    --user "$KEYSTEAD_CUSTOMER_AWS_ACCESS_KEY_ID:$KEYSTEAD_CUSTOMER_AWS_SECRET_ACCESS_KEY" \
    -H 'content-type: application/x-amz-json-1.1' -H "x-amz-target: TrentService.$1" --data-binary "$2" "$KEYSTEAD_AWS_ENDPOINT/"
}
disk() { # the first disk at /disk, with what is there from an earlier start
  for m in fuse loop ext4; do modprobe "$m"; done
  blkid /dev/vda >/dev/null || mkfs.ext4 -q /dev/vda
  mkdir /disk; mount /dev/vda /disk
}
start() { # start ARGUMENT...: `dev` over the first disk
  [ -d /disk ] || disk
  "$KEYSTEAD" dev --single-region --data /disk/data --env /tmp/env "$@" >/tmp/dev.log 2>&1 & dev=$!
  within 200 test -e /tmp/env
  . /tmp/env
  say "dev is up"
}
create() { # the cluster `vm`, with a key of its own in $key
  keystead cluster create vm --region eu-central-1 --encryption external >/dev/null
  keystead cluster watch vm --until AwaitingKey --timeout 120s >/dev/null
  keystead policy render vm --customer-account "$KEYSTEAD_CUSTOMER_ACCOUNT" >/tmp/policy
  key=$(kms CreateKey "$(jq -n --rawfile p /tmp/policy '{Policy: $p}')" | jq -r .KeyMetadata.Arn)
  # A preflight that came late is refused, and may be asked again.
  within 120 keystead cluster associate vm --key-arn "$key" >/dev/null
}
ready() { # waits for the cluster, and sets $uri
  keystead cluster watch vm --until Ready --timeout 600s >/dev/null
  say "the cluster is ready"
  # A slow probe can take Ready back for a moment: then no endpoint is shown.
  within 60 endpoint
}
endpoint() { uri=$(keystead cluster get vm --json | jq -er .endpoints.postgres); }
sql() { PGOPTIONS="-c client_min_messages=warning" psql -qAt -v ON_ERROR_STOP=1 "$uri" "$@"; }
