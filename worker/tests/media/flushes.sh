#!/bin/sh
# An ffmpeg that has all frames, is busy for three more seconds without a word, and then fails.
cat > /dev/null
sleep 3
exit 1
