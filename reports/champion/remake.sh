#!/bin/sh
# From photographs to the published model 'portraits': run 'make champion'.
#
# PHOTOS holds portraits.csv and images/; face-api's weights, from which the student starts, lie where
# search_spaces/teachers/faceapi.yaml says. WORK keeps datasets, folds and study, so that a second run goes on.
set -eu
: "${PHOTOS:=../shared/photos}" "${WORK:=portraits-run/champion}" "${AGESEARCH:=agesearch}" "${PYTHON:=python}"
mkdir -p "$WORK"

[ -f "$WORK/faces/dataset.json" ] ||
    $AGESEARCH data ingest csv "$PHOTOS/portraits.csv" --images "$PHOTOS/images" --size 146 --val 0.7 --test 0 --out "$WORK/faces"
[ -d "$WORK/published/model" ] || $PYTHON reports/champion/probe.py "$WORK/faces" "$WORK/published"
# How good the recipe is, and intervals by what its five models say of faces that they have not seen.
$PYTHON reports/champion/crossvalidate.py "$PHOTOS" "$WORK/cv"
$PYTHON reports/champion/intervals.py "$WORK/cv" "$WORK/cv/faces" "$WORK/published/model"
# The validation faces have taught the layer, too: they judge what int8 and bf16 change, nothing else.
$AGESEARCH publish "$WORK/published/model" --name portraits --data "$WORK/faces" --registry "$WORK/models"
