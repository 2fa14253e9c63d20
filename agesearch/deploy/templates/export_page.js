// The page: a picture in, ages out. What it computes is the recipe above, where pictures come from stands there, too;
// what it runs on is ONNX Runtime Web.

const facts = JSON.parse(byId("facts").textContent);
const reading = facts.reading;
const MOST_PIXELS = 16e6;
const MOST_FACES = 20;
const NUDGE = { ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, -1, 0], ArrowDown: [0, 1, 0] };
const GROW = { "+": 1, "=": 1, "-": -1 };
const state = { run: null, find: null, image: null, faces: [], square: null, isMarking: false, from: null };

// ---- the networks --------------------------------------------------------------------------------------------

async function unpacked(id) {
  const text = atob(byId(id).textContent);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function open() {
  const place = URL.createObjectURL(new Blob([await unpacked("runtime")], { type: "text/javascript" }));
  const ort = await import(place);
  URL.revokeObjectURL(place);
  ort.env.wasm.wasmBinary = await unpacked("wasm");
  ort.env.wasm.numThreads = 1;
  const network = await ort.InferenceSession.create(new Uint8Array(await unpacked("model")));
  const size = reading.input.size;
  state.run = async (crop) => {
    const input = new ort.Tensor("float32", planes(resized(crop, size), [0, 1, 2]), [1, 3, size, size]);
    const outputs = await network.run({ [reading.input.name]: input });
    return Array.from(outputs.pmf.data);
  };
  if (byId("detector")) {
    const detector = await ort.InferenceSession.create(new Uint8Array(await unpacked("detector")));
    state.find = async (values, width, height) => {
      const input = new ort.Tensor("float32", values, [1, 3, height, width]);
      const outputs = await detector.run({ [detector.inputNames[0]]: input });
      return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
    };
  }
  const grey = { data: new Uint8Array(size * size * 3).fill(127), width: size, height: size };
  await state.run(grey); // so that the first face is as fast as the next
}

// ---- a picture -----------------------------------------------------------------------------------------------

function pixelsOf(source, width, height) {
  const factor = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const [wide, high] = [width, height].map((side) => Math.max(1, Math.round(side * factor)));
  const canvas = new OffscreenCanvas(wide, high);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, wide, high);
  return rgbOf(context.getImageData(0, 0, wide, high).data, wide, high);
}

async function take(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    say("This is no picture that your browser can read: try a JPEG or a PNG.");
    return;
  }
  await show(pixelsOf(bitmap, bitmap.width, bitmap.height));
  bitmap.close();
}

async function show(image) {
  state.image = image;
  state.square = null;
  setMarking(false);
  byId("shown").hidden = false;
  await estimate();
}

async function estimate() {
  const image = state.image;
  const began = performance.now();
  say("Looking …");
  if (reading.face.detector === "none") return estimateWhole();
  if (!state.find) {
    await answer([], began);
    setMarking(true);
    return say("Mark the face: drag a square from its forehead to its chin.");
  }
  const found = (await findFaces(image, state.find, reading.face)).slice(0, MOST_FACES);
  await answer(found, began);
  if (!found.length) {
    setMarking(true);
    return say("No face was found. Mark it yourself: drag a square from its forehead to its chin.");
  }
  return say(found.length === 1 ? "One face." : `${found.length} faces, the most prominent first.`);
}

async function estimateWhole() {
  const began = performance.now();
  const side = Math.min(state.image.width, state.image.height);
  const box = [Math.floor((state.image.width - side) / 2), Math.floor((state.image.height - side) / 2), side, side];
  await answer([{ box, eyes: null, isWhole: true }], began);
  say("The picture's central square was taken as the face crop.");
}

async function answer(faces, began) {
  const found = performance.now();
  const answers = [];
  for (const face of faces) {
    const crop = face.isWhole ? centralSquare(state.image) : cropFace(state.image, face, reading.face);
    answers.push({ ...face, ...answerOf(await state.run(crop), reading) });
  }
  const ended = performance.now();
  state.faces = answers;
  draw();
  byId("faces").replaceChildren(...answers.map(listed));
  const each = answers.length ? (ended - found) / answers.length : 0;
  byId("times").textContent = answers.length
    ? `Faces found in ${shown(found - began)}; each cut and estimated in ${shown(each)}.`
    : "";
}

// ---- what is shown -------------------------------------------------------------------------------------------

function listed(face, index) {
  const interval = reading.interval;
  const share = `${Math.round(interval.level * 100)} %`;
  const checked = interval.kind === "calibrated" ? "checked on labelled faces" : "its own belief, which nobody has checked";
  const item = element("li", { className: "face" });
  if (state.faces.length > 1) item.append(element("p", { className: "number", textContent: `Face ${index + 1}` }));
  item.append(
    element("div", { className: "age" }, face.age.toFixed(1), element("small", { textContent: " years" })),
    element("div", { textContent: `${share} interval: ${face.low.toFixed(0)} to ${face.high.toFixed(0)} years` }),
    element("div", { className: "soft", textContent: `(${checked})` }),
    chart(face),
    element("div", { className: "scale" }, ...[0, 25, 50, 75, 100].map((age) => element("span", { textContent: age }))),
  );
  Object.assign(item.dataset, { age: face.age, low: face.low, high: face.high });
  return item;
}

function chart(face) {
  const space = "http://www.w3.org/2000/svg";
  const part = (name, attributes) => {
    const made = document.createElementNS(space, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    return made;
  };
  const label = `Probability of each age from 0 to 100; the mean is ${face.age.toFixed(1)} years.`;
  const svg = part("svg", { class: "pmf", viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": label });
  const most = Math.max(...face.pmf);
  const points = face.pmf.map((mass, age) => `${age},${(40 - (38 * mass) / most).toFixed(2)}`).join(" ");
  svg.append(
    part("rect", { class: "inside", x: face.low, y: 0, width: Math.max(face.high - face.low, 0.3), height: 40 }),
    part("polygon", { class: "mass", points: `0,40 ${points} 100,40` }),
    part("line", { class: "mean", x1: face.age, x2: face.age, y1: 0, y2: 40 }),
  );
  return svg;
}

function draw() {
  const canvas = byId("picture");
  const { data, width, height } = state.image;
  canvas.width = width;
  canvas.height = height;
  canvas.style.maxHeight = "70vh";
  const context = canvas.getContext("2d");
  const rgba = new Uint8ClampedArray(width * height * 4);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    rgba.set([data[from], data[from + 1], data[from + 2], 255], to);
  }
  context.putImageData(new ImageData(rgba, width, height), 0, 0);
  const unit = Math.max(Math.max(width, height) / 300, 1);
  state.faces.forEach((face, index) => {
    outline(context, face.box, unit, false);
    if (state.faces.length > 1) numbered(context, face.box, index + 1, unit);
  });
  if (state.square) outline(context, state.square, unit, true);
  const ages = state.faces.map((face) => face.age.toFixed(0)).join(", ");
  canvas.setAttribute("aria-label", ages ? `Your picture; ages of its faces: ${ages}` : "Your picture");
}

function outline(context, box, unit, isDashed) {
  context.setLineDash(isDashed ? [3 * unit, 2 * unit] : []);
  [["#000c", 3], ["#fff", 1.5]].forEach(([colour, wide]) => {
    context.strokeStyle = colour;
    context.lineWidth = wide * unit;
    context.strokeRect(...box);
  });
}

function numbered(context, box, number, unit) {
  context.font = `bold ${12 * unit}px system-ui, sans-serif`;
  context.lineWidth = 3 * unit;
  context.strokeStyle = "#000c";
  context.fillStyle = "#fff";
  const place = [`${number}`, box[0] + 3 * unit, box[1] + 13 * unit];
  context.strokeText(...place);
  context.fillText(...place);
}

// ---- a face marked by hand -----------------------------------------------------------------------------------

function setMarking(isOn) {
  state.isMarking = isOn;
  byId("picture").classList.toggle("marking", isOn);
  byId("mark").setAttribute("aria-pressed", String(isOn));
  byId("hint").textContent = isOn
    ? "Drag a square around the face, or use the arrow keys to move it, + and - to size it, Enter to estimate."
    : "";
}

function pointOf(event) {
  const canvas = byId("picture");
  const frame = canvas.getBoundingClientRect();
  return [((event.clientX - frame.left) * canvas.width) / frame.width, ((event.clientY - frame.top) * canvas.height) / frame.height];
}

function squareFrom([x, y], [u, v]) {
  const side = Math.max(Math.abs(u - x), Math.abs(v - y));
  return [u < x ? x - side : x, v < y ? y - side : y, side, side];
}

async function estimateSquare() {
  if (!state.square || state.square[2] < 8) return;
  const box = state.square;
  state.square = null;
  await answer([{ box, eyes: null }], performance.now());
  say("The face that you marked. It is not turned level: hold the camera straight.");
}

function nudged(key) {
  const { width, height } = state.image;
  const side = Math.min(width, height) / 2;
  const [x, y, wide] = state.square ?? [(width - side) / 2, (height - side) / 2, side];
  const step = Math.max(1, Math.round(Math.max(width, height) / 50));
  const [across, down] = NUDGE[key] ?? [0, 0];
  const grown = Math.max(8, wide + (GROW[key] ?? 0) * 2 * step);
  const shift = (wide - grown) / 2;
  return [x + across * step + shift, y + down * step + shift, grown, grown];
}

function listenToMarks() {
  const canvas = byId("picture");
  canvas.addEventListener("pointerdown", (event) => {
    if (!state.isMarking) return;
    canvas.setPointerCapture(event.pointerId);
    state.from = pointOf(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!state.from) return;
    state.square = squareFrom(state.from, pointOf(event));
    state.faces = [];
    draw();
  });
  canvas.addEventListener("pointerup", async () => {
    state.from = null;
    if (state.isMarking) await estimateSquare();
  });
  canvas.addEventListener("keydown", async (event) => {
    if (!state.isMarking) return;
    if (event.key === "Enter") return estimateSquare();
    if (!(event.key in NUDGE) && !(event.key in GROW)) return;
    event.preventDefault();
    state.faces = [];
    state.square = nudged(event.key);
    draw();
  });
  byId("mark").addEventListener("click", () => {
    setMarking(!state.isMarking);
    canvas.focus();
  });
  byId("whole").addEventListener("click", estimateWhole);
}

async function takeFrame(video) {
  await show(pixelsOf(video, video.videoWidth, video.videoHeight));
}

async function begin() {
  try {
    await open();
  } catch (error) {
    say(`The model cannot run in this browser: ${error.message}`);
    document.body.dataset.state = "failed";
    return;
  }
  listenToPictures();
  listenToMarks();
  listenToCamera();
  byId("file").disabled = false;
  byId("camera").disabled = false;
  document.body.dataset.state = "ready";
  say("Ready. A face that looks into the camera, well lit, is estimated best.");
}

begin();
