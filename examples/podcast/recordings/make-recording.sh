#!/bin/sh
# Makes first-light.wav from first-light.txt: synthesised speech, too quiet on purpose, with silence at both ends.
# Needs espeak-ng and sox (Debian: apt-get install espeak-ng sox). A run with the same versions of both
# (made with espeak-ng 1.51 and SoX 14.4.2) gives the same bytes again.
set -eu
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

espeak-ng -v en-gb -s 150 -p 42 -g 2 -f first-light.txt -w "$work/speech.wav"

# -R: the same "random" numbers every time. The room's noise makes the silence that of a recording: not digital zero.
sox -R "$work/speech.wav" -r 16000 -c 1 -b 16 "$work/quiet.wav" silence 1 0.01 0.5% pad 1.1 1.4 gain -n -17
seconds=$(soxi -D "$work/quiet.wav")
sox -R -n -r 16000 -c 1 -b 16 "$work/room.wav" synth "$seconds" pinknoise gain -n -64
sox -R -D -m -v 1 "$work/quiet.wav" -v 1 "$work/room.wav" -b 16 first-light.wav

soxi first-light.wav
