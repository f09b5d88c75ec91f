#!/bin/sh
# An ffmpeg that never answers.
exec sleep 600
