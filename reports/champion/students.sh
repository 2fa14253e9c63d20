#!/bin/sh
# From labelled portraits to a study of small students, which learn from a stack's answers for mixed faces.
#
#   students.sh WORK CSV SPACE INGEST... -- TUNE...
#
# WORK keeps what each step made, so that a second run goes on; SPACE is search_spaces/portraits.yaml or one like it; INGEST are
# options of 'data ingest' that say which faces judge (--val 0.25), TUNE those of 'tune'. PHOTOS, BACKBONES, AGESEARCH: see
# remake.sh. Run from the repository's folder.
set -eu
: "${PHOTOS:=../shared/photos}" "${BACKBONES:=../shared/backbones}" "${AGESEARCH:=agesearch}"
work=$1 csv=$2 space=$3
shift 3
ingest=
while [ "$1" != -- ]; do ingest="$ingest $1"; shift; done
shift
mkdir -p "$work"

[ -f "$work/faces/dataset.json" ] ||
    $AGESEARCH data ingest csv "$csv" --images "$PHOTOS/images" --size 146 $ingest --out "$work/faces"

refit() { # name, network, its weights: the last layer on the training faces
    $AGESEARCH refit "$2" --init "$3" --data "$work/faces" --out "$work/$1"
}
refit refitted xception_tiny_088@146 search_spaces/teachers/faceapi.yaml
refit narrow xception_tiny_050@146 search_spaces/teachers/faceapi.yaml
refit efficientnet efficientnet_lite0@146 "$BACKBONES/efficientnet-lite0-57934424.pth"
$AGESEARCH teacher stack "$work/refitted" "$work/efficientnet" --data "$work/faces" --out "$work/teacher.json"

# The teacher answers for any pixels: made of the training faces alone.
$AGESEARCH data augment "$work/faces" --views 8 --mixup 10 --cutmix 5 --out "$work/augmented"
$AGESEARCH annotate --teacher "$work/teacher.json" --data "$work/augmented" --out "$work/annotated"
here() { # a file of this repository, with its paths in this folder
    sed "s|portraits-run/champion/search|$work|" "$1" > "$work/$2"
}
here reports/champion/mix.yaml mix.yaml
here "$space" space.yaml
$AGESEARCH data mix "$work/mix.yaml" --out "$work/mixed"
if [ -f "$work/study/study.yaml" ]; then
    $AGESEARCH resume "$work/study"
else
    $AGESEARCH tune "$work/space.yaml" --data "$work/mixed" --teacher "$work/teacher.json" --out "$work/study" "$@"
fi
