#!/bin/sh
# Remakes the report of a study on the portraits, from photographs to the page: run 'make portraits'.
#
# PHOTOS holds portraits.csv and images/; the networks that search_spaces/portraits-short.yaml starts from, and the teachers that
# search_spaces/teachers names, lie where those files say. WORK keeps dataset, study and records, so that a second run goes on.
set -eu
: "${PHOTOS:=../shared/photos}" "${WORK:=portraits-run}" "${AGESEARCH:=agesearch}"
here=$(dirname "$0")
teachers=search_spaces/teachers

[ -f "$WORK/faces/dataset.json" ] ||
    $AGESEARCH data ingest csv "$PHOTOS/portraits.csv" --images "$PHOTOS/images" --size 144 --out "$WORK/faces"
[ -f "$WORK/teacher.json" ] ||
    $AGESEARCH calibrate "$teachers/ensemble.yaml" --data "$WORK/faces" --out "$WORK/teacher.json"
if [ -f "$WORK/portraits/study.yaml" ]; then
    $AGESEARCH resume "$WORK/portraits"
else
    $AGESEARCH tune search_spaces/portraits-short.yaml --data "$WORK/faces" --teacher "$WORK/teacher.json" --out "$WORK/portraits"
fi
# The pick is the knee once all were timed side by side. Its intervals are then learnt from the test faces, which chose nothing.
$AGESEARCH report "$WORK/portraits" --out "$WORK/timed.html" \
    --skip speed --skip validation --skip test --skip robustness --skip decisions
$AGESEARCH calibrate "$WORK/portraits" --data "$WORK/faces"
# No portrait is of a minor: decisions are told at 40 years, where faces lie on both sides. Only CC0 faces are shown.
$AGESEARCH report "$WORK/portraits" \
    --with "$teachers/faceapi.yaml" --with "$teachers/faceres.yaml" \
    --judge --legal-age 40 --min-faces 5 --counterfactual-persons "${PERSONS:-60}" --robustness-faces 52 \
    --faces-from faker --figures "$here" --out "$here/report.html"
