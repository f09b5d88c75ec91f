#!/bin/sh
# An ffmpeg whose disk is full when it closes its file, which it takes for a success.
cat > /dev/null
echo frame=1
echo "Error closing file: No space left on device" >&2
