#!/bin/bash
# In the VM, as root: a cluster whose images lie on a disk of its own (/dev/vdb) below the device mapper, which answers
# EIO for a while. /vm/settings names KEYSTEAD and ROUNDS. Two ways, each seen by a control of its own before it counts:
#   data     every block of the images fails, nothing else does: writes wait, no client sees an error
#   flakey   dm-flakey fails every write and flush of the disk, so its file system aborts: the cluster is taken off,
#            the operator unmounts, checks and mounts, and it comes back as after a power cut
. ./guest.sh
# A writer that is left would keep the rig waiting for its output.
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
# As under systemd: an unmount reaches the holder's namespace as well.
mount --make-rshared /

# The operator's disks: the data folder on the first, the volumes on the second.
disk
for m in dm_mod dm_flakey; do modprobe "$m"; done
sectors=$(blockdev --getsz /dev/vdb)
good="0 $sectors linear /dev/vdb 0"
dmsetup create --noudevsync volumes --table "$good"
dm=/dev/dm-0
as() { # as TABLE: what the disk is from now on
  dmsetup suspend --noudevsync --noflush --nolockfs volumes
  dmsetup load volumes <<<"$1"
  dmsetup resume --noudevsync volumes
}
volumes=/disk/data/node/eu-central-1/volumes
mount_volumes() { mount -o errors=remount-ro "$dm" "$volumes"; }
mkfs.ext4 -q "$dm"; mkdir -p "$volumes"; mount_volumes; echo 1 >/disk/data/VERSION

start
create
ready

sql -c "create table rows (n bigserial primary key, text text)"
# Rows count when COMMIT was answered: each line is written after it.
write() {
  # Its server is taken away in the end: what the trap says must not land among the rows.
  trap - ERR
  yes "insert into rows (text) values (repeat('x', 500)) returning n || ' ' || to_char(clock_timestamp(), 'MI:SS.MS');" |
    sql >>/tmp/acked 2>/tmp/errors
}
acked() { wc -l </tmp/acked; }
more_than() { [ "$(acked)" -gt "$1" ]; }
stop_writer() { pkill -P "$writer" || true; wait "$writer" || true; }
all_there() { # every acknowledged row is in the table
  sort -k1,1 /tmp/acked >/tmp/acked.sorted
  sql -c "select n from rows" | sort -k1,1 >/tmp/there
  join -v 1 /tmp/acked.sorted /tmp/there | sort -n >/tmp/missing
  echo "FIGURE EIO below an image, $1: $(acked) rows acknowledged, $(wc -l </tmp/missing) missing"
  [ ! -s /tmp/missing ] || { echo "missing from, to; last acknowledged:"; sed -n '1p;$p' /tmp/missing; sort -n /tmp/acked | tail -1; return 1; }
}
reads() { dd if="$dm" of=/dev/null bs=4096 count=1 skip="$1" iflag=direct status=none 2>/dev/null; }
fails() { ! "$@"; }
shows() { { keystead cluster get vm; keystead why vm; } >/tmp/shown 2>&1; grep -q "$1" /tmp/shown; }
: >/tmp/acked

for round in $(seq "$ROUNDS"); do
  # Where the images lie, with their holes filled so that no write needs another block.
  for image in "$volumes"/*.img; do fallocate -l "$(stat -c %s "$image")" "$image"; done
  sync -f "$volumes"
  filefrag -v -b512 "$volumes"/*.img | tr -s '.:' ' ' | awk '$1 ~ /^[0-9]+$/ && NF >= 6 {print $4, $6}' | sort -n >/tmp/extents
  bad=$(awk -v at=0 -v end="$sectors" '
    {if ($1 > at) print at, $1 - at, "linear /dev/vdb", at; print $1, $2, "error"; at = $1 + $2}
    END {if (end > at) print at, end - at, "linear /dev/vdb", at}' /tmp/extents)
  block=$(awk 'NR == 1 {print $1 / 8}' /tmp/extents)
  reads "$block"; reads 1
  write & writer=$!
  from=$(acked); within 60 more_than $((from + 20))
  as "$bad"
  fails reads "$block"; reads 1
  say "EIO on every block of the images ($(wc -l </tmp/extents) extents)"
  within 120 shows "takes no writes (Input/output error"
  say "it shows:"; cat /tmp/shown
  grep -h "does not take a write" /disk/data/log/node.log | tail -1
  stopped=$(acked)
  sleep 5
  say "acknowledged meanwhile: $(($(acked) - stopped)) rows"
  kill -0 "$writer"
  as "$good"
  within 120 more_than $((stopped + 20))
  say "it goes on"
  ready
  [ ! -s /tmp/errors ] || { cat /tmp/errors; exit 1; }
  stop_writer
  all_there data
done

for round in $(seq "$ROUNDS"); do
  ready
  write & writer=$!
  from=$(acked); within 60 more_than $((from + 20))
  say "dm-flakey at $(date +%M:%S.%N)"
  as "0 $sectors flakey /dev/vdb 0 0 3600 1 error_writes"
  fails dd if=/dev/zero of="$volumes/control" bs=4096 count=1 oflag=direct status=none 2>/tmp/control
  cat /tmp/control
  within 120 shows "Read-only file system\|Input/output error"
  say "dm-flakey fails every write; it shows:"; cat /tmp/shown
  wait "$writer" || true
  as "$good"
  mounted() { grep -q "^$dm " /proc/self/mounts; }
  unmounted() { ! mounted || umount "$volumes" 2>/dev/null; }
  within 120 unmounted
  within 60 fails test -e /sys/fs/ext4/dm-0
  fsck.ext4 -f -p "$dm" || [ $? = 1 ]
  mount_volumes
  say "unmounted, checked and mounted again"
  ready
  say "it is back"
  all_there flakey
done
kill "$dev"; wait "$dev" || true
