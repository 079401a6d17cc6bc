#!/bin/bash
# boot.sh FOLDER [ROOT]: run /ci/probe.py under a real systemd as PID 1, on a copy of this machine's files (or those of
# another system below ROOT) that is thrown away afterwards, without a network. FOLDER is /ci there. Called inside of new
# namespaces; see test_deploy_install.py.
set -eu
shared=$1
below=${2:-/}
mount --make-rprivate /
base=/mnt # seen in these namespaces only
mount -t tmpfs -o size=3g tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=$below,upperdir=$base/upper,workdir=$base/work" "$base/root"
cd "$base/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mount -t tmpfs tmpfs tmp
mkdir -p dev/pts dev/shm run/lock ci
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
for each in null zero full random urandom tty; do cp -a "/dev/$each" "dev/$each"; done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mount --bind "$shared" ci

# This machine, and another one that reaches it.
ip link set lo up
ip link add eth0 type bridge
ip addr add 192.0.2.10/24 dev eth0
ip link set eth0 up

# What boots a whole machine takes a minute here and proves nothing.
units=etc/systemd/system
rm -rf $units/*.wants
for each in systemd-{tmpfiles-setup,tmpfiles-setup-dev,hwdb-update,modules-load,sysusers,sysctl,update-utmp,journal-flush,journal-catalog-update,update-done,random-seed,remount-fs} ldconfig apparmor; do
    ln -sf /dev/null "$units/$each.service"
done
for each in dev-hugepages dev-mqueue sys-fs-fuse-connections sys-kernel-{debug,tracing,config}; do
    ln -sf /dev/null "$units/$each.mount"
done
# What namespaces do not give: PrivateDevices (226/NAMESPACE).
for each in mcp-memory mcp-memory-backup; do
    mkdir -p "$units/$each.service.d"
    printf '[Service]\nPrivateDevices=no\n' >"$units/$each.service.d/ci.conf"
done
cat >$units/ci.target <<END
[Unit]
Requires=ci.service sysinit.target sockets.target
END
cat >$units/ci.service <<END
[Unit]
After=sysinit.target sockets.target
[Service]
Type=oneshot
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root
ExecStart=-/usr/bin/python3 /ci/probe.py
ExecStopPost=/bin/systemctl exit --no-block 0
StandardOutput=file:/ci/output
StandardError=file:/ci/output
TimeoutStartSec=900
END
mkdir old
pivot_root . old
umount -l old
rmdir old
# As on a whole machine (a systemd that believes in a container leaves this as it is): credentials are mounted in a
# namespace of their own, and reach the unit by propagation.
mount --make-rshared /
exec env -i container=docker PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=ci.target --log-target=journal
