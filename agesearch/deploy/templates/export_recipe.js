// From pixels to ages: the recipe of agesearch in plain functions, as the service has it (data/images/crop.py,
// data/images/detectors.py, models/prepare.py, models/calibration). Images are {data, width, height}: RGB, 3 bytes
// a pixel, rows from the top. No function touches the page.
"use strict";

const AGES = 101;

// ---- pixels --------------------------------------------------------------------------------------------------

// RGBA -> RGB on white.
function rgbOf(rgba, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    const share = rgba[from + 3] / 255;
    for (let channel = 0; channel < 3; channel++) {
      data[to++] = Math.round(rgba[from + channel] * share + 255 * (1 - share));
    }
  }
  return { data, width, height };
}

// Which source pixels lie under each target pixel of a side, and how much of each (OpenCV's INTER_AREA).
function areaShares(source, target) {
  const scale = source / target;
  return Array.from({ length: target }, (_, index) => {
    const start = index * scale;
    const end = Math.min(start + scale, source);
    const shares = [];
    for (let at = Math.floor(start); at < end - 1e-9; at++) {
      shares.push([at, (Math.min(at + 1, end) - Math.max(at, start)) / (end - start)]);
    }
    return shares;
  });
}

// The two nearest pixels of each target pixel and their shares (OpenCV's INTER_LINEAR).
function linearShares(source, target) {
  const scale = source / target;
  return Array.from({ length: target }, (_, index) => {
    const place = Math.min(Math.max((index + 0.5) * scale - 0.5, 0), source - 1);
    const first = Math.floor(place);
    return [[first, 1 - (place - first)], [Math.min(first + 1, source - 1), place - first]];
  });
}

// The weighted sums of a picture's rows, then of their columns.
function weighted(image, columns, rows) {
  const { data, width } = image;
  const line = new Float64Array(width * 3);
  const out = new Uint8Array(columns.length * rows.length * 3);
  let to = 0;
  for (const shares of rows) {
    line.fill(0);
    for (const [row, weight] of shares) {
      const start = row * width * 3;
      for (let index = 0; index < line.length; index++) line[index] += weight * data[start + index];
    }
    for (const parts of columns) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (const [column, share] of parts) sum += share * line[3 * column + channel];
        out[to++] = Math.round(sum);
      }
    }
  }
  return { data: out, width: columns.length, height: rows.length };
}

function areaResized(image, width, height) {
  return weighted(image, areaShares(image.width, width), areaShares(image.height, height));
}

// A square crop at the side of the network's input.
function resized(image, size) {
  if (image.width === size && image.height === size) return image;
  if (image.height > size) return areaResized(image, size, size);
  return weighted(image, linearShares(image.width, size), linearShares(image.height, size));
}

// RGB (or, for the detector, BGR) planes as floats 0..255, in a frame of its own size.
function planes(image, order, width = image.width, height = image.height) {
  const out = new Float32Array(3 * width * height);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) {
      const from = (y * image.width + x) * 3;
      for (let channel = 0; channel < 3; channel++) {
        out[(channel * height + y) * width + x] = image.data[from + order[channel]];
      }
    }
  }
  return out;
}

// ---- the crop ------------------------------------------------------------------------------------------------

const MOST_SAMPLES = 8; // of recipe 1
const HALVED_FROM = 4; // of recipe 2, as the others
const CUBIC_UP_TO = 2;
const MARGIN = 2;

// The shares of four neighbours, for a place the fraction t behind the second (OpenCV's INTER_CUBIC).
function cubicWeights(t, into) {
  const a = -0.75;
  const far = 1 + t;
  const near = 1 - t;
  into[0] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a;
  into[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
  into[2] = ((a + 2) * near - (a + 3)) * near * near + 1;
  into[3] = 1 - into[0] - into[1] - into[2];
}

// The shares of two neighbours, in the places of those four.
function linearWeights(t, into) {
  into[0] = 0;
  into[1] = 1 - t;
  into[2] = t;
  into[3] = 0;
}

// A face {box: [x, y, w, h], eyes: [[x, y], [x, y]] or null} -> its square crop.
function cropFace(image, face, reading) {
  const [x, y, width, height] = face.box;
  const centre = [x + width / 2 - 0.5, y + height / 2 - 0.5];
  const side = Math.max(1, reading.scale * Math.max(width, height));
  let angle = 0;
  if (reading.align && face.eyes) {
    const across = [face.eyes[1][0] - face.eyes[0][0], face.eyes[1][1] - face.eyes[0][1]];
    if (Math.hypot(...across) > 0.05 * width) angle = Math.atan2(across[1], across[0]);
  }
  const cut = reading.recipe === 1 ? sampledFinely : halvedAndSampled;
  return cut(image, { centre, side, angle }, reading.crop_size);
}

function sampledFinely(image, square, size) {
  const factor = MOST_SAMPLES / (square.side / size);
  if (factor < 1) {
    const sides = [image.width, image.height].map((value) => Math.max(1, Math.round(value * factor)));
    const shrink = [sides[0] / image.width, sides[1] / image.height];
    image = areaResized(image, ...sides);
    square = {
      centre: square.centre.map((value, index) => (value + 0.5) * shrink[index] - 0.5),
      side: (square.side * (shrink[0] + shrink[1])) / 2,
      angle: square.angle,
    };
  }
  const samples = Math.max(1, Math.min(MOST_SAMPLES, Math.ceil(square.side / size - 1e-6)));
  return sampled(image, square, size, samples, cubicWeights);
}

function halvedAndSampled(image, square, size) {
  const dense = square.side / size / HALVED_FROM;
  if (dense >= 1) [image, square] = halvedRegion(image, square, Math.floor(Math.log2(dense)) + 1);
  const factor = square.side / size;
  const samples = Math.max(1, Math.ceil(factor - 1e-6));
  return sampled(image, square, size, samples, factor <= CUBIC_UP_TO ? cubicWeights : linearWeights);
}

// The part of a picture under a square, each pixel the mean of a block, and the square in its coordinates.
function halvedRegion(image, square, halvings) {
  const block = 2 ** halvings;
  const turned = Math.abs(Math.cos(square.angle)) + Math.abs(Math.sin(square.angle));
  const reach = (square.side / 2) * turned + MARGIN * block;
  const [left, right] = spanOf(square.centre[0], reach, image.width, block);
  const [top, bottom] = spanOf(square.centre[1], reach, image.height, block);
  let region = partOf(image, left, top, roundedUp(right - left, block), roundedUp(bottom - top, block));
  for (let halving = 0; halving < halvings; halving++) {
    region = areaResized(region, region.width / 2, region.height / 2);
  }
  const centre = [square.centre[0] - left, square.centre[1] - top].map((value) => (value + 0.5) / block - 0.5);
  return [region, { centre, side: square.side / block, angle: square.angle }];
}

function roundedUp(value, block) {
  return Math.ceil(value / block) * block;
}

// First pixel, and the one past the last, of those within reach, in whole blocks but for the edge.
function spanOf(middle, reach, length, block) {
  const first = Math.min(Math.max(0, Math.floor(middle - reach)), length - 1);
  const past = Math.max(first + 1, Math.min(length, Math.ceil(middle + reach)));
  return [first, Math.min(length, first + roundedUp(past - first, block))];
}

// A part of a picture; beyond the picture it repeats the edge.
function partOf(image, left, top, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let row = 0, to = 0; row < height; row++) {
    const line = Math.min(top + row, image.height - 1) * image.width;
    for (let column = 0; column < width; column++) {
      const from = (line + Math.min(left + column, image.width - 1)) * 3;
      data[to++] = image.data[from];
      data[to++] = image.data[from + 1];
      data[to++] = image.data[from + 2];
    }
  }
  return { data, width, height };
}

// A square at so many points along a crop pixel, averaged to the crop's side.
function sampled(image, square, size, samples, weights) {
  const fine = warped(image, square, size * samples, weights);
  return samples > 1 ? areaResized(fine, size, size) : fine;
}

// The square of a picture, at a side of so many pixels.
function warped(image, square, size, weights) {
  const { data, width, height } = image;
  const { centre, side, angle } = square;
  const cosine = (side / size) * Math.cos(angle);
  const sine = (side / size) * Math.sin(angle);
  const out = new Uint8ClampedArray(size * size * 3); // rounds, and cuts to 0..255
  const [across, down] = [new Float64Array(4), new Float64Array(4)];
  for (let row = 0, to = 0; row < size; row++) {
    for (let column = 0; column < size; column++, to += 3) {
      const u = column - (size - 1) / 2;
      const v = row - (size - 1) / 2;
      const x = centre[0] + cosine * u - sine * v;
      const y = centre[1] + sine * u + cosine * v;
      const left = Math.floor(x);
      const top = Math.floor(y);
      weights(x - left, across);
      weights(y - top, down);
      let [red, green, blue] = [0, 0, 0];
      for (let j = 0; j < 4; j++) {
        const line = Math.min(Math.max(top - 1 + j, 0), height - 1) * width;
        for (let i = 0; i < 4; i++) {
          const from = (line + Math.min(Math.max(left - 1 + i, 0), width - 1)) * 3;
          const weight = down[j] * across[i];
          red += weight * data[from];
          green += weight * data[from + 1];
          blue += weight * data[from + 2];
        }
      }
      out[to] = red;
      out[to + 1] = green;
      out[to + 2] = blue;
    }
  }
  return { data: out, width: size, height: size };
}

// The central square of an image that is a face crop already.
function centralSquare(image) {
  const side = Math.min(image.width, image.height);
  return partOf(image, Math.floor((image.width - side) / 2), Math.floor((image.height - side) / 2), side, side);
}

// ---- faces: YuNet (Wu et al. 2023) ---------------------------------------------------------------------------

const SEARCH_SIDES = [512, 960];
const STRIDES = [8, 16, 32];
const MOST_OVERLAP = 0.3;
// How far yuface's boxes (whole pixels, of the same network in 8 bits) lie from these on average, over 232 portraits.
const YUFACE_SHIFT = [-0.64, -0.17, -0.19, -1.31];

// The faces of an image, the most prominent first; run(planes, width, height) is the network.
async function findFaces(image, run, reading) {
  const longer = Math.max(image.width, image.height);
  for (const side of SEARCH_SIDES) {
    const factor = Math.min(1, side / longer);
    const width = factor === 1 ? image.width : Math.max(16, Math.round(image.width * factor));
    const height = factor === 1 ? image.height : Math.max(16, Math.round(image.height * factor));
    const small = factor === 1 ? image : areaResized(image, width, height);
    const padded = [width, height].map((value) => Math.ceil(value / 32) * 32);
    const outputs = await run(planes(small, [2, 1, 0], ...padded), ...padded);
    const yunet = separate(decoded(outputs, padded[0], padded[1], reading.min_score));
    const found = (reading.detected_by ?? reading.detector).startsWith("yuface") ? yunet.map(asYuface) : yunet;
    if (found.length || factor === 1) return inImage(found, image.width / width, image.height / height);
  }
  return [];
}

function decoded(outputs, width, height, leastScore) {
  const found = [];
  const part = (value) => Math.min(Math.max(value, 0), 1);
  for (const stride of STRIDES) {
    const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((name) => outputs[`${name}_${stride}`]);
    const columns = width / stride;
    for (let index = 0; index < columns * (height / stride); index++) {
      const score = Math.sqrt(part(cls[index]) * part(obj[index]));
      if (score < leastScore) continue;
      const [column, row] = [index % columns, Math.floor(index / columns)];
      const wide = Math.exp(bbox[4 * index + 2]) * stride;
      const high = Math.exp(bbox[4 * index + 3]) * stride;
      const x = (column + bbox[4 * index]) * stride - wide / 2;
      const y = (row + bbox[4 * index + 1]) * stride - high / 2;
      const eyes = [0, 1].map((eye) => [
        (kps[10 * index + 2 * eye] + column) * stride,
        (kps[10 * index + 2 * eye + 1] + row) * stride,
      ]);
      found.push({ score, box: [x, y, wide, high], eyes });
    }
  }
  return found.sort((one, other) => other.score - one.score);
}

// A face as yuface would have put it, which a model has learnt that was trained on its faces.
function asYuface({ score, box, eyes }) {
  const shifted = box.map((value, index) => value + YUFACE_SHIFT[index]);
  return { score, box: shifted, eyes: eyes.map((eye) => eye.map(Math.trunc)) };
}

function separate(faces) {
  const kept = [];
  for (const face of faces) {
    if (kept.every((other) => overlap(face.box, other.box) <= MOST_OVERLAP)) kept.push(face);
  }
  return kept;
}

function overlap(one, other) {
  const width = Math.min(one[0] + one[2], other[0] + other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[1] + one[3], other[1] + other[3]) - Math.max(one[1], other[1]);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / (one[2] * one[3] + other[2] * other[3] - width * height);
}

function inImage(faces, across, down) {
  const found = faces.map(({ score, box, eyes }) => ({
    score,
    box: [box[0] * across, box[1] * down, box[2] * across, box[3] * down],
    eyes: eyes.map(([x, y]) => [x * across, y * down]),
  }));
  const prominence = (face) => face.score * face.box[2] * face.box[3];
  return found.sort((one, other) => prominence(other) - prominence(one));
}

// ---- ages ----------------------------------------------------------------------------------------------------

function meanOf(pmf) {
  return pmf.reduce((sum, share, age) => sum + share * age, 0);
}

function clipped(age) {
  return Math.min(Math.max(age, 0), AGES - 1);
}

// The age below which a share of the mass lies.
function quantile(pmf, level) {
  let below = 0;
  for (let age = 0; age < AGES; age++) {
    if (below + pmf[age] >= level - 1e-9 || age === AGES - 1) {
      const share = 1 - (below + pmf[age] - level) / Math.max(pmf[age], 1e-12);
      return clipped(age - 0.5 + Math.min(Math.max(share, 0), 1));
    }
    below += pmf[age];
  }
  return AGES - 1;
}

function correctedAge(age, correction) {
  if (!correction) return age;
  const points = correction.points;
  const [first, last] = [points[0], points[points.length - 1]];
  const line = ([x, y], [u, v]) => y + ((age - x) * (v - y)) / (u - x);
  if (correction.kind === "affine") return clipped(line(points[0], points[1]));
  if (age <= first[0]) return clipped(first[1] + age - first[0]);
  if (age >= last[0]) return clipped(last[1] + age - last[0]);
  const next = points.findIndex(([x]) => x > age);
  return clipped(line(points[next - 1], points[next]));
}

// The mass moved along the ages until its mean is the wanted one; what leaves 0..100 is heaped at the end.
function movedTo(pmf, wanted) {
  const mean = (shift) => pmf.reduce((sum, share, age) => sum + share * clipped(age + shift), 0);
  let [low, high, shift] = [-AGES, AGES, wanted - meanOf(pmf)];
  for (let halving = 0; halving < 50 && Math.abs(mean(shift) - wanted) >= 1e-9; halving++) {
    if (mean(shift) < wanted) low = shift;
    else high = shift;
    shift = (low + high) / 2;
  }
  const moved = new Array(AGES).fill(0);
  pmf.forEach((share, age) => {
    const place = clipped(age + shift);
    const below = Math.floor(place);
    moved[below] += share * (1 - (place - below));
    moved[Math.min(below + 1, AGES - 1)] += share * (place - below);
  });
  return moved;
}

// What is said of a face with the network's PMF: {age, low, high, pmf} in years.
function answerOf(raw, reading) {
  const total = raw.reduce((sum, share) => sum + share, 0);
  let pmf = Array.from(raw, (share) => share / total);
  const correction = reading.age.correction;
  if (correction) pmf = movedTo(pmf, correctedAge(meanOf(pmf), correction));
  const age = meanOf(pmf);
  const tail = (1 - reading.interval.level) / 2;
  let [low, high] = [quantile(pmf, tail), quantile(pmf, 1 - tail)];
  const cells = reading.interval.cells.filter((cell) => age >= cell.first && age < cell.last);
  if (cells.length) {
    low = Math.min(low - Math.max(...cells.map((cell) => cell.below)), age);
    high = Math.max(high + Math.max(...cells.map((cell) => cell.above)), age);
  }
  return { age, low: clipped(low), high: clipped(high), pmf };
}
