#!/bin/sh
# From photographs to the published model 'portraits': run 'make champion'.
#
# PHOTOS holds portraits.csv and images/; the teachers and the weights that search_spaces/champion.yaml starts from lie
# where the files of search_spaces say. WORK keeps dataset, calibration and study, so that a second run goes on.
set -eu
: "${PHOTOS:=../shared/photos}" "${WORK:=portraits-run/champion}" "${AGESEARCH:=agesearch}"
mkdir -p "$WORK"

[ -f "$WORK/faces/dataset.json" ] ||
    $AGESEARCH data ingest csv "$PHOTOS/portraits.csv" --images "$PHOTOS/images" --size 146 --val 0.04 --test 0.04 --out "$WORK/faces"
[ -f "$WORK/teachers.json" ] ||
    $AGESEARCH calibrate search_spaces/teachers/ensemble.yaml --data "$WORK/faces" --out "$WORK/teachers.json"
# Where the student starts: champion.yaml names this file.
START=portraits-run/champion/start.json
mkdir -p "${START%/*}"
[ -f "$START" ] || $AGESEARCH calibrate search_spaces/teachers/faceapi.yaml --data "$WORK/faces" --out "$START"
if [ -f "$WORK/study/study.yaml" ]; then
    $AGESEARCH resume "$WORK/study"
else
    $AGESEARCH tune search_spaces/champion.yaml --data "$WORK/faces" --teacher "$WORK/teachers.json" --out "$WORK/study"
fi
# 14 validation faces cannot judge an int8 network: fp32 alone.
$AGESEARCH publish "$WORK/study/trials/0000" --name portraits --data "$WORK/faces" --registry "$WORK/models" --max-drop 0
