# The first process of a cluster, in PID, mount, network, IPC and UTS namespaces of its own.
# When it ends, the kernel ends every process of the cluster, and with them go mounts, links and rules.
set -eu
folder=$1 lifetime=$2
hostname node1

# What the kubelet demands of these settings is true of the machine; here it finds it fulfilled already.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
	kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
	file=${setting%%=*}
	mkdir -p "$folder/sysctl/${file%/*}"
	echo "${setting#*=}" >"$folder/sysctl/$file"
	mount --bind "$folder/sysctl/$file" "/proc/sys/$file"
done

# Folders with fixed names, which two clusters must not share. The handle outlives what is mounted above.
exec 3<"$folder"
mkdir -p "$folder"/{var/upper,var/work,kubelet,containerd}
mount -t overlay -o "lowerdir=/var,upperdir=$folder/var/upper,workdir=$folder/var/work" var /var
mount -t tmpfs -o mode=755 run /run
mkdir -p "$folder"
mount --no-canonicalize --rbind /proc/self/fd/3 "$folder"
exec 3<&-
mkdir -p /var/lib/kubelet /run/lock
mount --bind "$folder/kubelet" /var/lib/kubelet
# The kubelet mounts volumes that containers must see.
mount --make-rshared /

ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo ready

# A first process reaps what is orphaned, as bash does.
if [ "$lifetime" = tied ]; then
	while read -r _; do :; done
else
	exec <&-
	while :; do sleep 86400 & wait $! || true; done
fi
