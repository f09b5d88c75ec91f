#!/bin/bash
# layout.sh FOLDER: makes NVIDIA's packages in FOLDER look like an installed CUDA toolkit, with what they lack.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$1"
mv nvidia/cu13/* .
rm -r nvidia
rm -f lib/*.alt.so* lib/libnvblas.so*

# Linkers look for names without versions.
for library in lib/lib*.so.*; do
	name=${library#lib/}
	ln -s "$name" "lib/${name%%.so.*}.so"
done
ln -s lib lib64

# The driver's functions, by the names that programs are linked to: cuda.h renames some with a version.
mkdir lib/stubs
echo '#include <cuda.h>' | cc -E -P -I include - | grep -oE '\bcu[A-Z][A-Za-z0-9_]* *\(' | tr -d ' (' | LC_ALL=C sort -u |
	sed 's/.*/SYMBOL(&)/' >lib/stubs/symbols
[ "$(wc -l <lib/stubs/symbols)" -gt 400 ]
cc -O2 -fPIC -DSYMBOLS="\"$PWD/lib/stubs/symbols\"" -c "$here/driver.c" -o lib/stubs/driver.o
ar rcs lib/stubs/libcuda.a lib/stubs/driver.o

# candle's build names these, and nothing here calls them. Whoever does gets an undefined symbol.
for name in nvrtc cudart; do
	rm -f "lib/lib$name.so"
	ar rcs "lib/stubs/lib$name.a"
done

mkdir candle
cp "$here/nvcc" candle/nvcc
chmod +x candle/nvcc
