#!/bin/sh
# From photographs to the published model 'portraits', with the product's verbs alone: run 'make champion'.
#
# PHOTOS holds portraits.csv and images/; face-api's weights lie where search_spaces/teachers/faceapi.yaml says. WORK keeps what
# each step made, so that a second run goes on.
set -eu
: "${PHOTOS:=../shared/photos}" "${WORK:=portraits-run/champion}" "${AGESEARCH:=agesearch}"
mkdir -p "$WORK"

[ -f "$WORK/faces/dataset.json" ] ||
    $AGESEARCH data ingest csv "$PHOTOS/portraits.csv" --images "$PHOTOS/images" --size 146 --val 0.7 --test 0 --out "$WORK/faces"
# The last layer on all faces; nested cross-validation says how good it is, and gives it its intervals.
$AGESEARCH refit search_spaces/teachers/faceapi.yaml --data "$WORK/faces" --split all --out "$WORK/refitted"
# The validation faces have taught the layer, too: they judge what int8 and bf16 change, nothing else.
$AGESEARCH publish "$WORK/refitted" --name portraits --data "$WORK/faces" --registry "$WORK/models"
