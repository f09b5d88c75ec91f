#!/bin/bash
# Builds ffmpeg and ffprobe from Debian's source, statically, with nothing but what is listed here.
#
#   build.sh FOLDER: where the two programs go
#
# The lists are a security boundary: what is not in them cannot be reached by a hostile file.
# With x264 in them the programs are under the GPL, version 2 or later.
set -euo pipefail
target=$(realpath "$1")

demuxers=mov,matroska,avi,rawvideo,wav,concat
video=h264,hevc,vp8,vp9,libaom_av1,mpeg4,mpeg2video,mjpeg,prores,dnxhd,ffv1,png,rawvideo
audio=aac,mp2,mp2float,mp3,mp3float,opus,vorbis,flac,alac,ac3,eac3,dca
pcm=pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_mulaw,pcm_alaw
encoders=libx264,ffv1,png,rawvideo,aac,pcm_s16le,pcm_f32le
muxers=mp4,mov,matroska,webm,avi,rawvideo,wav,pcm_s16le,pcm_f32le,framehash,null
parsers=h264,hevc,vp8,vp9,av1,mpeg4video,mpegvideo,mjpeg,png,dnxhd,aac,mpegaudio,opus,vorbis,flac,ac3,dca
filters=scale,format,fps,null,crop,transpose,hflip,vflip,rotate,setpts,setsar,trim,select,anull,aformat,aresample,asetpts,atempo,atrim
bitstream=aac_adtstoasc,extract_extradata,h264_mp4toannexb,hevc_mp4toannexb,vp9_superframe,vp9_superframe_split,setts,null

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
# Sources come from where this machine's packages come from: its own entries for Debian, mirrors and keys included.
entries() {
	apt-get indextargets --format '$(SOURCESENTRY)' 'Created-By: Packages' 'Origin: Debian' | sed 's/:[0-9]*$//' | sort -u
}
[ -n "$(entries)" ] || apt-get -qq update
mkdir lists entries
for file in $(entries); do
	case $file in
	*.sources) sed -E 's/^Types:.*/Types: deb deb-src/' "$file" >"entries/$(basename "$file")" ;;
	*) sed -nE 's/^[[:space:]]*deb[[:space:]]+/ /; T; s/^/deb/p; s/^deb/deb-src/p' "$file" >"entries/$(basename "$file" .list).list" ;;
	esac
done
[ -n "$(ls entries)" ] || { echo "no entry of /etc/apt/sources.list or /etc/apt/sources.list.d is for Debian, whose source of ffmpeg is needed: add one" >&2; exit 1; }
# What is installed says nothing about what Debian has.
settings=(-q -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/entries"
	-o Dir::State::lists="$work/lists" -o Dir::State::status=/dev/null -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
apt-get "${settings[@]}" update
version=$(apt-cache "${settings[@]}" policy ffmpeg | sed -n 's/^ *Candidate: //p')
apt-get "${settings[@]}" source "ffmpeg=$version"
cd ffmpeg-*/
./configure --disable-everything --disable-autodetect --disable-network --disable-doc --disable-debug \
	--disable-ffplay --disable-avdevice --disable-postproc \
	--enable-gpl --enable-libx264 --enable-libaom --enable-zlib \
	--pkg-config-flags=--static --extra-ldflags=-static \
	--enable-protocol=file,pipe --enable-demuxer=$demuxers --enable-decoder=$video,$audio,$pcm --enable-encoder=$encoders \
	--enable-muxer=$muxers --enable-parser=$parsers --enable-filter=$filters --enable-bsf=$bitstream
make -j2 ffmpeg ffprobe
strip ffmpeg ffprobe
cp ffmpeg ffprobe "$target/"
