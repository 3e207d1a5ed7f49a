#!/bin/bash
# Drives a Keystead S3 gateway with a stock tool: `s3_tools.sh cli|rclone|restic`. Fails where the
# tool does, or where what comes back is not what went in.
set -euo pipefail

export AWS_ACCESS_KEY_ID=$WRITER_ID AWS_SECRET_ACCESS_KEY=$WRITER_SECRET
export AWS_DEFAULT_REGION=$REGION AWS_ENDPOINT_URL=$ENDPOINT
# A proxy of the machine is no business of loopback.
unset AWS_CA_BUNDLE
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null LC_ALL=C.UTF-8

tree() {
  mkdir -p "$WORK/tree/sub/d" "$WORK/back"
  for i in $(seq 12); do head -c $((i * 7001)) /dev/urandom > "$WORK/tree/sub/f $i+ü"; done
  head -c 21000003 /dev/urandom > "$WORK/tree/big"
  : > "$WORK/tree/empty"
  echo hi > "$WORK/tree/sub/d/x"
  cd "$WORK"
}

cli() {
  local quiet=(--no-progress --only-show-errors)
  "$AWS" s3 mb s3://cli
  "$AWS" s3 cp tree/big s3://cli/big "${quiet[@]}"
  "$AWS" s3 cp s3://cli/big back/big "${quiet[@]}"
  cmp tree/big back/big
  "$AWS" s3 sync tree s3://cli/tree "${quiet[@]}"
  "$AWS" s3 sync s3://cli/tree back/tree "${quiet[@]}"
  diff -r tree back/tree
  test -z "$("$AWS" s3 sync tree s3://cli/tree --no-progress)"
  test "$("$AWS" s3 ls s3://cli/tree/ | wc -l)" = 3
  "$AWS" s3 cp - s3://cli/stream "${quiet[@]}" < tree/big
  "$AWS" s3 cp s3://cli/stream - "${quiet[@]}" | cmp - tree/big
  "$AWS" s3 mv s3://cli/stream s3://cli/moved "${quiet[@]}"
  "$AWS" s3api head-object --bucket cli --key moved | grep -q '"ServerSideEncryption": "aws:kms"'
  "$AWS" s3api get-object --bucket cli --key moved --range bytes=5-9 back/range > back/answer
  cmp back/range <(tail -c +6 tree/big | head -c 5)
  "$AWS" s3api put-object --bucket cli --key sum --body tree/big --checksum-algorithm SHA256 > back/answer
  "$AWS" s3api get-object --bucket cli --key sum --checksum-mode ENABLED back/sum > back/answer
  cmp tree/big back/sum
  "$AWS" s3 cp tree/big s3://cli/kms --sse aws:kms --sse-kms-key-id "$KEY_ARN" "${quiet[@]}"
  curl -sSf "$("$AWS" s3 presign s3://cli/moved)" | cmp - tree/big
  if "$AWS" s3 cp tree/empty s3://cli/aes --sse AES256 "${quiet[@]}" 2> back/refused; then exit 1; fi
  grep -q 'must be aws:kms' back/refused
  "$AWS" s3 rm s3://cli --recursive --only-show-errors
  "$AWS" s3 rb s3://cli
}

rclone() {
  export RCLONE_CONFIG=/dev/null RCLONE_CONFIG_K_TYPE=s3 RCLONE_CONFIG_K_PROVIDER=Other
  export RCLONE_CONFIG_K_ACCESS_KEY_ID=$WRITER_ID RCLONE_CONFIG_K_SECRET_ACCESS_KEY=$WRITER_SECRET
  export RCLONE_CONFIG_K_ENDPOINT=$ENDPOINT RCLONE_CONFIG_K_REGION=$REGION
  export RCLONE_CONFIG_K_SERVER_SIDE_ENCRYPTION=aws:kms
  command rclone mkdir k:rclone
  command rclone sync tree k:rclone/t --s3-upload-cutoff 5M --s3-chunk-size 5M
  command rclone check tree k:rclone/t
  command rclone check tree k:rclone/t --download
  command rclone copy k:rclone/t k:rclone/u
  command rclone check k:rclone/t k:rclone/u --download
  command rclone moveto k:rclone/u/big k:rclone/u/moved
  command rclone cat k:rclone/u/moved | cmp - tree/big
  command rclone cat k:rclone/u/moved --offset 7000000 --count 11 | cmp - <(tail -c +7000001 tree/big | head -c 11)
  command rclone sync k:rclone/t back/tree
  diff -r tree back/tree
  command rclone purge k:rclone
}

restic() {
  export RESTIC_REPOSITORY=s3:$ENDPOINT/restic RESTIC_PASSWORD=not-a-secret
  export RESTIC_CACHE_DIR=$WORK/cache
  command restic init -q
  command restic backup tree -q
  echo more > tree/more
  command restic backup tree -q
  command restic check --read-data -q
  command restic restore latest --target back -q
  diff -r tree back/tree
  command restic forget --keep-last 1 --prune -q
  command restic check --read-data -q
}

tree
"$1"
echo "$1 ok"
