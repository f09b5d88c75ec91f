#!/bin/bash
# Writes what is derived from other files: the chart's copy of the CRDs, the digests in the examples, and install.yaml.
#
#   manifests/generate.sh            writes them
#   manifests/generate.sh --check    writes nothing, and fails with the difference if they are not up to date
#
# crds/yaml is generated from the Rust types before this. HELM names the helm to use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
helm=${HELM:-helm}
command -v "$helm" >/dev/null || { echo "generate: no helm; set HELM to one (e2e/tools/install.sh helm builds it)" >&2; exit 1; }

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cp -R charts manifests "$out/"

rm -f "$out"/charts/framewright/files/crds/*
cp crds/yaml/*.yaml "$out/charts/framewright/files/crds/"

# A line that has a digest and a size and ends in "# PATH" gets those of the file PATH.
for example in "$out"/manifests/examples/*.yaml; do
	while read -r path; do
		[ -f "$path" ] || { echo "generate: ${example##*/} names $path, which is not there" >&2; exit 1; }
		digest=sha256:$(sha256sum "$path" | cut -d' ' -f1) bytes=$(stat -c %s "$path")
		sed -i -E "\|# $path\$|{s/digest: sha256:[0-9a-f]{64}/digest: $digest/; s/bytes: [0-9]+/bytes: $bytes/}" "$example"
	done < <(sed -nE 's/.*digest: sha256:[0-9a-f]{64}.* # (.+)$/\1/p' "$example" | sort -u)
done

{
	echo "# Framewright without Helm: kubectl apply --server-side -f install.yaml"
	echo "# Generated from charts/framewright with its default values; \`make generate\` writes it."
	echo "# The store asks for a volume of the default StorageClass; without one it waits. Helm would say so before."
	printf -- '---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: framewright-system\n'
	printf '  labels:\n    pod-security.kubernetes.io/enforce: restricted\n'
	"$helm" template framewright "$out/charts/framewright" --namespace framewright-system --skip-tests
} >"$out/manifests/install.yaml"

if [ "${1:-}" = --check ]; then
	diff -ru charts/framewright/files "$out/charts/framewright/files" && diff -ru manifests "$out/manifests" \
		|| { echo "generate: these files are not what they are derived from; run \`make generate\`" >&2; exit 1; }
else
	rm -f charts/framewright/files/crds/*
	cp "$out"/charts/framewright/files/crds/*.yaml charts/framewright/files/crds/
	cp "$out"/manifests/examples/*.yaml manifests/examples/
	cp "$out/manifests/install.yaml" manifests/
fi
