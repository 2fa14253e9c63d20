// The page: a picture goes to the service, its answer is shown. The key lives in its field and nowhere else; what the
// service says is put into the page as text, never as markup.

const MODES = { true: "whole", false: "detect" };
const SIGNS = { pass: "✓", refuse: "✗", unsure: "?" };
const STEPS = { queue_ms: "waiting", decode_ms: "decoding", detect_ms: "finding faces", crop_ms: "cutting", forward_ms: "the network" };
const state = { models: [], picture: null, asked: 0 };

async function call(path, options = {}) {
  const headers = { ...options.headers, Authorization: `Bearer ${byId("key").value.trim()}` };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The service did not answer: is it still running?");
  }
  if (!response.ok) {
    const document_ = await response.json().catch(() => ({}));
    throw new Error(document_.error?.message ?? `The service answered ${response.status}.`);
  }
  return response;
}

function tell(text, isFault = false) {
  byId("status").classList.toggle("failed", isFault);
  say(text);
}

// ---- models --------------------------------------------------------------------------------------------------

async function openModels() {
  const select = byId("model");
  state.models = [];
  byId("about").hidden = true;
  if (!byId("key").value.trim()) return;
  try {
    state.models = (await (await call("v1/models")).json()).models.filter((model) => model.role === "live");
  } catch (error) {
    select.disabled = true;
    tell(error.message, true);
    return;
  }
  select.replaceChildren(...state.models.map((model) => element("option", { value: model.name, textContent: model.name })));
  select.disabled = state.models.length === 0;
  tell("Ready. A face that looks into the camera, well lit, is estimated best.");
  await showModel();
  if (state.picture) await ask();
}

function chosen() {
  return state.models.find((model) => model.name === byId("model").value);
}

async function showModel() {
  const model = chosen();
  if (!model) return;
  const place = `v1/models/${encodeURIComponent(model.name)}`;
  byId("model-note").textContent = `Version ${model.version}, ${model.runtime}, ${model.precision}`;
  const manifest = await call(place).then((found) => found.json()).catch(() => ({}));
  const card = await call(`${place}/card`).then((found) => found.text()).catch(() => "");
  if (model !== chosen()) return; // another was chosen meanwhile
  byId("facts").replaceChildren(...factsOf(model, manifest).flatMap(([name, text]) => [
    element("dt", { textContent: name }),
    element("dd", { textContent: text }),
  ]));
  byId("card-text").textContent = card;
  byId("card").hidden = !card;
  byId("about").hidden = false;
}

function factsOf(model, manifest) {
  const facts = [
    ["Model", `${model.name}, version ${model.version}`],
    ["Network", `${model.arch}, ${model.input_size} px${manifest.parameters ? `, ${manifest.parameters.toLocaleString("en")} parameters` : ""}`],
    ["Runs on", `${model.runtime}, ${model.precision}`],
    ["Intervals", model.interval_level === null ? "its own belief, which nobody has checked" : `calibrated for ${percent(model.interval_level)} of faces`],
  ];
  const named = Object.entries(manifest.metrics ?? {}).find(([name]) => name.endsWith("mae_years"));
  if (named) {
    const [low, high] = manifest.intervals?.[named[0]] ?? [];
    const range = low === undefined ? "" : ` (95 % interval ${low.toFixed(2)} to ${high.toFixed(2)})`;
    facts.push(["Mean error", `${named[1].toFixed(2)} years${range}`]);
  }
  if (manifest.created) facts.push(["Made", manifest.created.slice(0, 10)]);
  return facts;
}

// ---- an answer -----------------------------------------------------------------------------------------------

async function take(blob) {
  state.picture = blob;
  await ask();
}

async function takeFrame(video) {
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  await take(await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95)));
}

function pathOf() {
  const query = new URLSearchParams({ faces: MODES[byId("whole").checked] });
  if (byId("challenge").value !== "") query.set("challenge_age", byId("challenge").value);
  const own = state.models.length > 1 ? `models/${encodeURIComponent(byId("model").value)}/` : "";
  return `v1/${own}predict?${query}`;
}

async function ask() {
  const picture = state.picture;
  if (!byId("key").value.trim()) {
    byId("key").focus();
    return tell("Give the token or key first.", true);
  }
  const number = ++state.asked;
  tell("Looking …");
  const began = performance.now();
  try {
    const type = picture.type.startsWith("image/") ? picture.type : "image/unknown";
    const response = await call(pathOf(), { method: "POST", headers: { "Content-Type": type }, body: picture });
    const answer = await response.json();
    if (number !== state.asked) return undefined; // a later question is under way
    await show(picture, answer, performance.now() - began);
    const faces = answer.faces.length;
    return tell(faces === 0 ? "No face was found." : faces === 1 ? "One face." : `${faces} faces, the most certain first.`);
  } catch (error) {
    if (number === state.asked) {
      byId("shown").hidden = true;
      tell(error.message, true);
    }
    return undefined;
  }
}

async function show(picture, answer, milliseconds) {
  const image = byId("seen");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(picture);
  byId("shown").hidden = false;
  byId("boxes").replaceChildren();
  byId("faces").replaceChildren(...answer.faces.map((face, index) => listed(face, index, answer)));
  byId("promise").textContent = answer.faces.length ? promiseOf(answer) : "";
  const steps = Object.entries(STEPS).map(([name, words]) => `${words} ${shown(answer.timing[name] ?? 0)}`);
  byId("times").textContent = `There and back ${shown(milliseconds)}: ${steps.join(", ")}.`;
  const isSeen = await image.decode().then(() => true, () => false); // some formats a browser does not know
  image.hidden = !isSeen;
  if (isSeen) byId("boxes").replaceChildren(...answer.faces.map((face, index) => boxed(face, index, answer)));
  const ages = answer.faces.map((face) => face.age.toFixed(0)).join(", ");
  image.alt = ages ? `Your picture; ages of its faces: ${ages}` : "Your picture";
}

function boxed(face, index, answer) {
  const [x, y, width, height] = face.box;
  const frame = element("span", {}, element("b", { textContent: answer.faces.length > 1 ? `${index + 1}: ${face.age.toFixed(0)}` : face.age.toFixed(0) }));
  const sides = { left: x / answer.image.width, top: y / answer.image.height, width: width / answer.image.width, height: height / answer.image.height };
  Object.entries(sides).forEach(([side, share]) => { frame.style[side] = `${100 * share}%`; });
  return frame;
}

function listed(face, index, answer) {
  const item = element("li", { className: "face" });
  if (answer.faces.length > 1) item.append(element("p", { className: "number", textContent: `Face ${index + 1}` }));
  const kind = answer.interval_level === null ? "Its own range" : `${percent(answer.interval_level)} interval`;
  item.append(
    element("div", { className: "age" }, face.age.toFixed(1), element("small", { textContent: " years" })),
    element("div", { textContent: `${kind}: ${face.interval[0].toFixed(0)} to ${face.interval[1].toFixed(0)} years` }),
  );
  if (face.decision) {
    const words = element("div", { className: `decision ${face.decision}`, textContent: decided(face.decision, answer.challenge_age) });
    words.dataset.sign = SIGNS[face.decision];
    item.append(words);
  }
  return item;
}

function decided(decision, age) {
  if (decision === "pass") return `Pass: the interval begins at ${age} or above.`;
  if (decision === "refuse") return `Refuse: the interval ends below ${age}.`;
  return `Unsure: the interval holds ${age}. Use another way.`;
}

function promiseOf(answer) {
  return answer.interval_level === null
    ? "The ranges are the model's own: nobody has checked how often they hold the true age."
    : `The intervals hold the true age of ${percent(answer.interval_level)} of faces like those of the calibration.`;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

byId("key").addEventListener("change", openModels);
byId("model").addEventListener("change", async () => {
  await showModel();
  if (state.picture) await ask();
});
for (const name of ["challenge", "whole"]) byId(name).addEventListener("change", () => state.picture && ask());
listenToPictures();
listenToCamera();
document.body.dataset.state = "ready";
