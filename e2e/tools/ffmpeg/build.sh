#!/bin/bash
# Builds ffmpeg and ffprobe from Debian's source, statically, with nothing but what is listed here.
#
#   build.sh FOLDER: where the two programs go
#
# The lists are a security boundary: what is not in them cannot be reached by a hostile file.
# With x264 in them the programs are under the GPL, version 2 or later.
set -euo pipefail
target=$(realpath "$1")

demuxers=mov,matroska,avi,rawvideo,wav
video=h264,hevc,vp8,vp9,libaom_av1,mpeg4,mpeg2video,mjpeg,prores,dnxhd,ffv1,png,rawvideo
audio=aac,mp3,mp3float,opus,vorbis,flac,alac,ac3,eac3,pcm_u8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_f32le
encoders=libx264,ffv1,png,rawvideo,aac,pcm_s16le,pcm_f32le
muxers=mp4,mov,matroska,webm,avi,rawvideo,wav,pcm_s16le,pcm_f32le,framehash,null
parsers=h264,hevc,vp8,vp9,av1,mpeg4video,mpegvideo,mjpeg,png,dnxhd,aac,mpegaudio,opus,vorbis,flac,ac3
filters=scale,format,fps,null,crop,transpose,hflip,vflip,rotate,setpts,setsar,trim,select,anull,aformat,aresample,asetpts,atrim
bitstream=aac_adtstoasc,extract_extradata,h264_mp4toannexb,hevc_mp4toannexb,vp9_superframe,vp9_superframe_split,null

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
. /etc/os-release
mkdir lists
cat >sources.list <<SOURCES
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $VERSION_CODENAME main
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security $VERSION_CODENAME-security main
SOURCES
apt=(apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists")
"${apt[@]}" update
"${apt[@]}" source ffmpeg
cd ffmpeg-*/
./configure --disable-everything --disable-autodetect --disable-network --disable-doc --disable-debug \
	--disable-ffplay --disable-avdevice --disable-postproc \
	--enable-gpl --enable-libx264 --enable-libaom --enable-zlib \
	--pkg-config-flags=--static --extra-ldflags=-static \
	--enable-protocol=file,pipe --enable-demuxer=$demuxers --enable-decoder=$video,$audio --enable-encoder=$encoders \
	--enable-muxer=$muxers --enable-parser=$parsers --enable-filter=$filters --enable-bsf=$bitstream
make -j2 ffmpeg ffprobe
strip ffmpeg ffprobe
cp ffmpeg ffprobe "$target/"
