#!/bin/sh
# From photographs to the published model 'portraits', the best teacher, and a search of small students, with the product's verbs
# alone: 'make champion'.
#
# PHOTOS holds portraits.csv and images/, BACKBONES ImageNet's weights; face-api's and faceres' lie where their manifests in
# search_spaces/teachers say. WORK keeps what each step made, so that a second run goes on.
set -eu
: "${PHOTOS:=../shared/photos}" "${BACKBONES:=../shared/backbones}" "${WORK:=portraits-run/champion}" "${AGESEARCH:=agesearch}"
export PHOTOS BACKBONES AGESEARCH
mkdir -p "$WORK"

[ -f "$WORK/faces/dataset.json" ] ||
    $AGESEARCH data ingest csv "$PHOTOS/portraits.csv" --images "$PHOTOS/images" --size 146 --val 0.7 --test 0 --out "$WORK/faces"

refit() { # name, network, options: its last layer on all faces; held-out persons say how good it is, and give it its intervals
    name=$1 network=$2
    shift 2
    $AGESEARCH refit "$network" "$@" --data "$WORK/faces" --split all --out "$WORK/$name"
}

refit refitted xception_tiny_088@146 --init search_spaces/teachers/faceapi.yaml
# The validation faces have taught the layer, too: they judge what int8 and bf16 change, nothing else.
$AGESEARCH publish "$WORK/refitted" --name portraits --data "$WORK/faces" --registry "$WORK/models"

# The best teacher: it has seen all faces, so that these cannot judge its students.
refit mobilenetv2 mobilenetv2_100@146 --init "$BACKBONES/mobilenet_v2-b0353104.pth"
refit efficientnet efficientnet_lite0@146 --init "$BACKBONES/efficientnet-lite0-57934424.pth"
$AGESEARCH teacher stack "$WORK/refitted" "$WORK/mobilenetv2" "$WORK/efficientnet" search_spaces/teachers/faceres.yaml \
    --data "$WORK/faces" --split all --out "$WORK/teacher.json"

# The small students: searched on three quarters of the faces, taught by a stack that has seen no others, judged by the rest.
"$(dirname "$0")/students.sh" "$WORK/search" "$PHOTOS/portraits.csv" search_spaces/portraits.yaml \
    --val 0.25 --test 0 --
