#!/bin/bash
# In the VM, as root: the product over what the last power cut left. It tells which rows there are, then commits more
# until the power goes, telling each row after its commit. A line has its dot when it was told in full.
. ./guest.sh
start
keystead cluster get vm >/dev/null 2>&1 || create
ready
keystead audit verify --dir /disk/data/kms/trail --heads /disk/data/node/eu-central-1/heads.jsonl
# A row counts when its text is whole, too.
text="repeat(md5(n::text), 8)"
sql -c "create table if not exists rows (n bigserial primary key, text text generated always as ($text) stored)"
sql -c "select 'present ' || n || '.' from rows where text = $text"
say GOES ON
for _ in 1 2 3; do yes "insert into rows default values returning 'committed ' || n || '.';" | sql & done
wait -n
say "a client ended"; exit 1
