#!/bin/bash
# Installs what a test cluster is made of, and says on stdout where it is, as name=path lines.
#
#   install.sh control-plane | controllers | node | images | ffmpeg | helm | gpus | cuda | deny …
#
# Debian packages come from the distribution. Kubernetes, etcd, CoreDNS and helm are Go modules
# pinned by the go.sum beside this file, cargo-deny is pinned by its version and its own Cargo.lock,
# CUDA is NVIDIA's Python packages, pinned by digest; each is made once into a cache of the user's,
# under a name that carries the hash of its pins. A build that is interrupted leaves nothing that counts.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/framewright/tools
say() { echo "tools: $*" >&2; }
fail() { say "$*"; exit 1; }

# packages NAME… installs the Debian packages that are missing.
packages() {
	local missing=()
	for package in "$@"; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || fail "this machine lacks ${missing[*]} and has no apt-get: install them by its own means, or use Debian 12 or later"
	[ "$(id -u)" = 0 ] || fail "run this as root once, or: sudo apt-get install ${missing[*]}"
	say "installing from Debian: ${missing[*]} (about a minute)"
	mkdir -p "$cache"
	exec 8>"$cache/.packages.lock"
	flock 8
	# The service that Debian's containerd brings would be a second runtime on the machine.
	local policy=/usr/sbin/policy-rc.d quiet= mark='# framewright: while packages are installed'
	# One that a killed run has left goes first; another's stays.
	if grep -qsxF "$mark" "$policy"; then rm -f "$policy"; fi
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy" && chmod +x "$policy" && quiet=yes
		trap "rm -f $policy" EXIT
	fi
	apt-get update -qq >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 \
		|| fail "apt-get could not install ${missing[*]}; its own words are above"
	[ -z "$quiet" ] || rm -f "$policy"
	exec 8>&-
}

# go_tool NAME MINUTES LDFLAGS PACKAGE… builds the packages of the module NAME; leaves its folder in $built.
go_tool() {
	local name=$1 minutes=$2 ldflags=$3 hash temporary output='' began=$SECONDS
	shift 3
	hash=$(cd "$here/$name" && { find . -type f | LC_ALL=C sort | xargs sha256sum; echo "$ldflags $*"; } | sha256sum | cut -c1-12)
	built=$cache/$name-$hash
	[ -d "$built" ] && return 0
	command -v go >/dev/null || fail "building $name needs Go 1.26 or later on the PATH"
	mkdir -p "$cache"
	exec 9>"$cache/.$name.lock"
	flock --nonblock 9 || { say "waiting for another build of $name"; flock 9; }
	[ -d "$built" ] && return 0
	say "building $name from its Go module, once (about $minutes on two cores)"
	rm -rf "$cache/.$name-"*.partial
	temporary=$cache/.$name-$hash.partial
	mkdir -p "$temporary"
	[ $# -gt 1 ] || output=$name
	(cd "$here/$name" && CGO_ENABLED=0 nice -n 10 go build -p 2 -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$temporary/$output" "$@" >&2) \
		|| fail "building $name failed; Go's own words are above"
	mv -T "$temporary" "$built"
	say "built $name in $((SECONDS - began)) s: $(ls "$built" | tr '\n' ' ')"
	exec 9>&-
}

kubernetes() {
	local version
	version=$(awk '{ sub("^require ", "") } $1 == "k8s.io/kubernetes" { print $2 }' "$here/kubernetes/go.mod")
	[ -n "$version" ] || fail "$here/kubernetes/go.mod requires no k8s.io/kubernetes"
	IFS=. read -r major minor _ <<<"${version#v}"
	local base=k8s.io/component-base/version
	go_tool kubernetes "10 minutes" "-X $base.gitVersion=$version -X $base.gitMajor=$major -X $base.gitMinor=$minor" \
		k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-proxy,kube-scheduler,kubectl,kubelet}
}

# The convention of controller-runtime's envtest: a folder that holds etcd, kube-apiserver and kubectl.
assets() {
	[ -n "${KUBEBUILDER_ASSETS:-}" ] || return 1
	for name in etcd kube-apiserver kubectl; do
		[ -x "$KUBEBUILDER_ASSETS/$name" ] || fail "KUBEBUILDER_ASSETS is set to $KUBEBUILDER_ASSETS, which has no $name: unset it, or put it there"
	done
}

control_plane() {
	packages iproute2 iptables
	if assets; then
		for name in etcd kube-apiserver kubectl; do echo "$name=$KUBEBUILDER_ASSETS/$name"; done
		return
	fi
	go_tool etcd "a minute" "" go.etcd.io/etcd/server/v3
	echo "etcd=$built/etcd"
	kubernetes
	for name in kube-apiserver kubectl; do echo "$name=$built/$name"; done
}

controllers() {
	control_plane
	kubernetes
	echo "kube-controller-manager=$built/kube-controller-manager"
}

node() {
	packages containerd runc containernetworking-plugins conntrack socat ethtool
	control_plane
	kubernetes
	for name in kube-controller-manager kube-scheduler kube-proxy kubelet; do echo "$name=$built/$name"; done
	go_tool coredns "2 minutes" "" .
	echo "coredns=$built/coredns"
	go_tool pause "a second" "" .
	echo "pause=$built/pause"
}

helm() {
	go_tool helm "2 minutes" "" helm.sh/helm/v4/cmd/helm
	echo "helm=$built/helm"
}

gpus() {
	go_tool gpus "a minute" "" .
	echo "gpus=$built/gpus"
}

# deny builds what checks licences and sources; unoptimised, since a check takes seconds and a fat build many minutes.
deny() {
	local version=0.20.2 temporary began=$SECONDS
	built=$cache/cargo-deny-$version
	if [ ! -d "$built" ]; then
		mkdir -p "$cache"
		exec 9>"$cache/.cargo-deny.lock"
		flock --nonblock 9 || { say "waiting for another build of cargo-deny"; flock 9; }
	fi
	if [ ! -d "$built" ]; then
		say "building cargo-deny, once (about 2 minutes on two cores)"
		temporary=$cache/.cargo-deny.partial
		rm -rf "$temporary" && mkdir "$temporary"
		env CARGO_TARGET_DIR="$temporary/target" CARGO_PROFILE_RELEASE_{OPT_LEVEL=0,LTO=off,CODEGEN_UNITS=16} \
			nice -n 10 cargo install --quiet --locked --root "$temporary/installed" "cargo-deny@$version" >&2 \
			|| fail "building cargo-deny failed; cargo's own words are above"
		mv -T "$temporary/installed/bin" "$built"
		rm -rf "$temporary"
		say "built cargo-deny in $((SECONDS - began)) s"
		exec 9>&-
	fi
	echo "cargo-deny=$built/cargo-deny"
}

images() {
	packages buildah runc mmdebstrap
}

ffmpeg() {
	local hash temporary
	hash=$(sha256sum <"$here/ffmpeg/build.sh" | cut -c1-12)
	built=$cache/ffmpeg-$hash
	if [ ! -d "$built" ]; then
		packages gcc make nasm pkg-config dpkg-dev zlib1g-dev libx264-dev libaom-dev
		mkdir -p "$cache"
		exec 9>"$cache/.ffmpeg.lock"
		flock --nonblock 9 || { say "waiting for another build of ffmpeg"; flock 9; }
	fi
	if [ ! -d "$built" ]; then
		say "building ffmpeg from Debian's source, once (about 5 minutes on two cores)"
		# Whatever a killed build has left goes, its work too.
		rm -rf "$cache/.ffmpeg-"*.partial
		temporary=$cache/.ffmpeg-$hash.partial
		mkdir -p "$temporary/work"
		TMPDIR="$temporary/work" nice -n 10 "$here/ffmpeg/build.sh" "$temporary" >"$cache/ffmpeg.log" 2>&1 \
			|| fail "building ffmpeg failed: $(tail -n 3 "$cache/ffmpeg.log")"
		rm -rf "$temporary/work"
		mv -T "$temporary" "$built"
		exec 9>&-
	fi
	for name in ffmpeg ffprobe; do echo "$name=$built/$name"; done
}

# A CUDA toolkit: nvcc, headers, and the libraries that the worker loads. It needs no GPU.
cuda() {
	local hash
	[ "$(uname -m)" = x86_64 ] || fail "CUDA is pinned for x86-64, and this machine is $(uname -m): build the worker for GPUs elsewhere"
	hash=$(cd "$here/cuda" && sha256sum requirements.txt layout.sh driver.c nvcc | sha256sum | cut -c1-12)
	built=$cache/cuda-$hash
	if [ ! -d "$built" ]; then
		packages g++
		python3 -m pip --version >/dev/null 2>&1 || packages python3-pip
		mkdir -p "$cache"
		exec 9>"$cache/.cuda.lock"
		flock --nonblock 9 || { say "waiting for another installation of CUDA"; flock 9; }
		[ -d "$built" ] || cuda_toolkit "$cache/.cuda-$hash.partial"
		exec 9>&-
	fi
	echo "cuda=$built"
}

cuda_toolkit() {
	say "installing CUDA from NVIDIA's packages, once (0.7 GB to fetch, 1 GB on disk)"
	rm -rf "$1" && mkdir "$1"
	PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-deps --no-cache-dir --no-compile \
		--only-binary :all: --require-hashes --target "$1" --requirement "$here/cuda/requirements.txt" >&2 \
		|| fail "pip could not install CUDA; its own words are above"
	"$here/cuda/layout.sh" "$1" || fail "NVIDIA's packages are not laid out as expected; see $here/cuda/layout.sh"
	mv -T "$1" "$built"
	say "CUDA is there: $(du -sh "$built" | cut -f1)"
}

[ $# -gt 0 ] || fail "say what to install: control-plane, controllers, node, images, ffmpeg, helm, gpus, cuda, deny"
for part in "$@"; do
	case $part in
	control-plane) control_plane ;;
	controllers | node | images | ffmpeg | helm | gpus | cuda | deny) "$part" ;;
	*) fail "$part is none of: control-plane, controllers, node, images, ffmpeg, helm, gpus, cuda, deny" ;;
	esac
done
