#!/bin/sh
# A teacher, faces that it answers for, and the smallest student of both; its error and its speed beside two large networks.
# Run 'make speed'. WORK keeps what was done, so that a second run goes on.
set -eu
: "${WORK:=speed-run}" "${AGESEARCH:=agesearch}"
mkdir -p "$WORK"

[ -d "$WORK/labelled" ] || cp -r agesearch/assets/synthetic-faces "$WORK/labelled"
$AGESEARCH teach --data "$WORK/labelled" --arch mobilenetv3_large_075 --input-size 80 --epochs 40 --learning-rate 0.006 \
    --augment 0.5 --label-sigma 3 --out "$WORK/teacher"
# Rendered as the labelled ones were, from another seed; their ages are thrown away.
$AGESEARCH data synth --count 5000 --seed 2 --out "$WORK/rendered"
if [ ! -f "$WORK/faces/dataset.json" ]; then
    $AGESEARCH annotate --teacher "$WORK/teacher" --data "$WORK/rendered" --labelled replace --out "$WORK/annotated"
    printf 'datasets: [{data: %s/labelled}, {data: %s/annotated, splits: [train]}]\n' "$WORK" "$WORK" > "$WORK/mixture.yaml"
    $AGESEARCH data mix "$WORK/mixture.yaml" --out "$WORK/faces"
fi
if [ -f "$WORK/study/study.yaml" ]; then
    $AGESEARCH resume "$WORK/study" --confirm 2
else
    $AGESEARCH tune search_spaces/annotated.yaml --data "$WORK/faces" --teacher "$WORK/teacher" --confirm 2 --out "$WORK/study"
fi
$AGESEARCH evaluate "$WORK/study/trials/0000" "$WORK/teacher" --data "$WORK/faces" --split test
$AGESEARCH measure speed "$WORK/study/trials/0000" seresnet50@224 vgg16@224 --threads 1 --batch 1
# Does the student answer as well in bf16?
$AGESEARCH measure speed "$WORK/study/trials/0000" --threads 1 --batch 1 --precision fp32 --precision bf16 --gate --data "$WORK/faces"
